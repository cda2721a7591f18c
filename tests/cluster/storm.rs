//! Fifty agents powered on at the same moment leave exactly one bootstrap.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::agent::{Agent, OPERATIONS};
use support::normal::end_state;
use support::shared;

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
