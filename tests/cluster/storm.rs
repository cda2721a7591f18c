//! Fifty agents powered on at the same moment leave exactly one bootstrap.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sf_contract::release::Schema;
use sf_firstboot::bootstrap::{Outcome, Plan, Report};
use sf_firstboot::database::Connector;
use sf_firstboot::failure::Failure;
use support::agent::{Agent, OPERATIONS};
use support::lot::Barrier;
use support::metadata::{author, dump, inputs, within};
use support::normal::end_state;
use support::proxy::{At, Proxy, Side, Then};
use support::{Admin, block_on, connector, dsn, shared};

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

/// What a run on this database found.
fn run(
    series: u64,
    fqdn: &str,
    connector: &Connector,
    schema: &Schema,
) -> Result<Report, Vec<Failure>> {
    let mut inputs = inputs();
    inputs.series = format!("0.{series}").parse().unwrap();
    inputs.predecessor = Some(format!("0.{}", series - 1).parse().unwrap());
    block_on(sf_firstboot::bootstrap::run(
        connector,
        schema,
        &Plan::new(inputs).unwrap(),
        &author(fqdn),
        within(30),
        &mut |_| {},
    ))
}

/// Holds a run back behind its command of that number until another one, of
/// series 0.7, has done everything.
fn overtaken(name: &str, series: u64, number: usize) {
    let server = shared();
    let direct = connector(&server.dsn(name));
    let proxy = Proxy::start(server.port);
    let barrier = Arc::new(Barrier::default());
    let hold = Arc::clone(&barrier);
    proxy.arm_then(At::Command(number), Side::After, move || {
        hold.park(0);
        Then::Pass
    });
    let through = connector(&dsn(name, proxy.port));
    let at = format!("series 0.{series}, command {number}");
    let (slow, fast) = std::thread::scope(|scope| {
        let slow = scope.spawn(|| run(series, "db2.example", &through, &Schema::Agent));
        assert!(barrier.wait_for(1), "{at} is not reached");
        let fast = run(7, "db1.example", &direct, &Schema::Agent).unwrap();
        barrier.open();
        (slow.join().unwrap(), fast)
    });
    let slow = slow.unwrap_or_else(|failures| panic!("{at}: {failures:?}"));
    // On a busy machine the held run gives its connection up and comes back
    // while the other one still works: then they share the operations.
    for (slow, fast) in slow.operations.iter().zip(&fast.operations) {
        let created = [slow, fast].map(|done| done.outcome == Outcome::Created);
        assert!(
            created[0] != created[1] && slow.name == fast.name,
            "{at}: {slow:?}, {fast:?}"
        );
    }
    assert_eq!(slow.operations.len(), fast.operations.len());
}

/// One run has seen the tables half made, and stands still; another makes the
/// rest and all operations. The first must not take what it has not seen for
/// lost.
#[test]
fn a_run_that_is_overtaken_between_two_reads_goes_on() {
    let release_makes_them = Schema::Command {
        command: vec!["sf-ctl".into(), "ensure-mariadb-schema".into()],
        expected: BTreeMap::new(),
    };
    for number in 1..=8 {
        let name = format!("overtaken{number}");
        let direct = connector(&shared().database(&name));
        // The agent's own tables, and none of the cluster's.
        run(7, "db1.example", &direct, &release_makes_them).unwrap_err();
        overtaken(&name, 7, number);
    }
}

/// One run, whose image is of the next series, stands still anywhere between its
/// first look at the records and its first transaction; another bootstraps the
/// cluster. The next series may join that, and does: what the first had read of it
/// before is no contradiction.
#[test]
fn a_run_of_the_next_series_that_is_overtaken_goes_on() {
    let server = shared();
    let name = "next";
    let mut admin = server.admin();
    // All tables, and no row: another node is about to write the first.
    let empty = |admin: &mut Admin| {
        let tables: Vec<String> = dump(admin, name).into_keys().collect();
        admin.run(&format!("USE `{name}`; SET foreign_key_checks = 0"));
        for table in tables {
            admin.run(&format!("DELETE FROM `{table}`"));
        }
    };
    let direct = connector(&server.database(name));
    run(7, "db1.example", &direct, &Schema::Agent).unwrap();
    empty(&mut admin);
    let proxy = Proxy::start(server.port);
    proxy.arm(usize::MAX, Side::Before, || {});
    let through = connector(&dsn(name, proxy.port));
    run(8, "db2.example", &through, &Schema::Agent).unwrap();
    let log = proxy.log();
    let first = |what: &str| log.iter().position(|c| c.contains(what)).unwrap() + 1;
    let records = first("SELECT name, outcome, fingerprint");
    for number in records..=first("START TRANSACTION") {
        empty(&mut admin);
        overtaken(name, 8, number);
    }
}
