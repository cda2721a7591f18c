//! Fifty agents powered on at the same moment leave exactly one bootstrap.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sf_contract::release::Schema;
use sf_firstboot::bootstrap::{Outcome, Plan};
use sf_firstboot::database::Connector;
use support::agent::{Agent, OPERATIONS};
use support::lot::Barrier;
use support::metadata::{author, inputs, within};
use support::normal::end_state;
use support::proxy::{At, Proxy, Side, Then};
use support::{block_on, connector, dsn, shared};

const AGENTS: usize = 50;

#[test]
fn fifty_agents_at_once_leave_exactly_one_bootstrap() {
    let server = shared();
    let dsn = server.database("storm");
    let agents: Vec<Agent> = (0..AGENTS)
        .map(|number| Agent::new(&format!("db{number}.example"), &dsn))
        .collect();
    let started = Instant::now();
    let mut running: Vec<_> = agents
        .iter()
        .map(|a| a.command().spawn().unwrap())
        .collect();
    for (child, agent) in running.iter_mut().zip(&agents) {
        let status = child.wait_timeout(Duration::from_secs(200)).unwrap();
        let status = status.expect("an agent hangs");
        assert!(status.success(), "{status}: {}", agent.log());
    }
    let took = started.elapsed();

    // Each operation was created by one agent, and found by all the others.
    let mut created: BTreeMap<String, usize> = BTreeMap::new();
    for agent in &agents {
        for (name, outcome) in agent.operations() {
            *created.entry(name).or_insert(0) += usize::from(outcome == "created");
        }
    }
    let once: BTreeMap<String, usize> = OPERATIONS
        .iter()
        .map(|name| ((*name).to_owned(), 1))
        .collect();
    assert_eq!(created, once);

    let mut admin = server.admin();
    let rows = admin.rows("SELECT name FROM storm.bootstrap_operations ORDER BY name");
    assert_eq!(rows.concat(), OPERATIONS);
    // One seed, one key with its three rows, one namespace: the form says so.
    end_state(&mut admin, "storm", true);
    for (table, count) in [
        ("cluster_series", "1"),
        ("cluster_config", "4"),
        ("namespaces", "1"),
        ("namespace_keys", "1"),
        ("namespace_key_attributes", "1"),
        ("object_states", "2"),
    ] {
        assert_eq!(
            admin.cell(&format!("SELECT COUNT(*) FROM storm.{table}")),
            count,
            "{table}"
        );
    }
    println!(
        "{AGENTS} agents: all done after {:.1} s",
        took.as_secs_f64()
    );
}

/// One run has seen the tables half made, and stands still; another makes the
/// rest and all operations. The first must not take what it has not seen for
/// lost.
#[test]
fn a_run_that_is_overtaken_between_two_reads_goes_on() {
    let server = shared();
    let release_makes_them = Schema::Command {
        command: vec!["sf-ctl".into(), "ensure-mariadb-schema".into()],
        expected: BTreeMap::new(),
    };
    let run = |fqdn: &str, connector: &Connector, schema: &Schema| {
        block_on(sf_firstboot::bootstrap::run(
            connector,
            schema,
            &Plan::new(inputs()).unwrap(),
            &author(fqdn),
            within(30),
            &mut |_| {},
        ))
    };
    for number in 1..=8 {
        let name = format!("overtaken{number}");
        let direct = connector(&server.database(&name));
        // The agent's own tables, and none of the cluster's.
        run("db1.example", &direct, &release_makes_them).unwrap_err();
        let proxy = Proxy::start(server.port);
        let barrier = Arc::new(Barrier::default());
        let hold = Arc::clone(&barrier);
        proxy.arm_then(At::Command(number), Side::After, move || {
            hold.park(0);
            Then::Pass
        });
        let through = connector(&dsn(&name, proxy.port));
        let (slow, fast) = std::thread::scope(|scope| {
            let slow = scope.spawn(|| run("db2.example", &through, &Schema::Agent));
            assert!(barrier.wait_for(1), "command {number} is not reached");
            let fast = run("db1.example", &direct, &Schema::Agent).unwrap();
            barrier.open();
            (slow.join().unwrap(), fast)
        });
        let slow = slow.unwrap_or_else(|failures| panic!("command {number}: {failures:?}"));
        // On a busy machine the held run gives its connection up and comes back
        // while the other one still works: then they share the operations.
        for (slow, fast) in slow.operations.iter().zip(&fast.operations) {
            let created = [slow, fast].map(|done| done.outcome == Outcome::Created);
            assert!(
                created[0] != created[1] && slow.name == fast.name,
                "command {number}: {slow:?}, {fast:?}"
            );
        }
        assert_eq!(slow.operations.len(), fast.operations.len());
    }
}
