//! Agents on a real Galera cluster of three servers: started all over it at
//! once, with a server killed, cut off or stripped of its quorum while they
//! work, and losing against each other at COMMIT.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use support::agent::{Agent, OPERATIONS};
use support::galera::{Galera, NODES};
use support::lot::Lot;
use support::matrix::{Outcome, Section};
use support::metadata::dump;
use support::normal::{EndState, end_state};
use support::proxy::{Proxy, Side, Then};
use support::steps::{Point, Script};

/// What an undisturbed run sends, and what it leaves.
struct Undisturbed {
    script: Script,
    state: EndState,
}

/// A database with a proxy before server 0; the other servers come after it.
fn place(cluster: &Galera, name: &str) -> (Proxy, String) {
    cluster.admin(1).database(name);
    let proxy = Proxy::before(cluster.address(0));
    let through: SocketAddr = (Ipv4Addr::LOCALHOST, proxy.port).into();
    let dsn = Galera::dsn(name, &[through, cluster.address(1), cluster.address(2)]);
    (proxy, dsn)
}

fn undisturbed(cluster: &Galera) -> Undisturbed {
    let (proxy, dsn) = place(cluster, "undisturbed");
    proxy.arm(usize::MAX, Side::Before, || {});
    let agent = Agent::new("db1.example", &dsn);
    let status = agent.command().spawn().unwrap().wait().unwrap();
    assert!(status.success(), "{status}: {}", agent.log());
    let script = Script::new(proxy.log());
    assert_eq!(script.commits(), OPERATIONS.len());
    Undisturbed {
        script,
        state: end_state(&mut cluster.admin(0), "undisturbed", true),
    }
}

/// All servers hold the same rows of a database.
fn same_everywhere(cluster: &Galera, name: &str) {
    let [first, rest @ ..] = [0, 1, 2].map(|node| {
        let mut admin = cluster.admin(node);
        // Not before what the others committed is applied here.
        admin.run("SET SESSION wsrep_sync_wait = 7");
        dump(&mut admin, name)
    });
    assert!(!first.is_empty());
    for other in rest {
        assert_eq!(other, first, "{name}");
    }
}

fn fill(cluster: &Galera, script: &Script, then: fn(Side) -> Then) -> Lot {
    Lot::fill(&script.points(), "run", then, |name| place(cluster, name))
}

/// Ends the runs, compares what they left on every server, and publishes.
fn judge(cluster: &Galera, base: &Undisturbed, lot: Lot, fault: &str, about: &'static str) {
    let runs = lot.finish();
    let mut section = Section::new("Galera", fault, about, &base.script);
    let mut admin = cluster.admin(0);
    admin.run("SET SESSION wsrep_sync_wait = 7");
    for run in &runs {
        let part = base.script.part(run.point.number);
        let verify = part.starts_with("key/") || run.point.number % 8 == 0;
        let at = format!("{fault}: {:?} of {part}", run.point);
        assert_eq!(end_state(&mut admin, &run.name, verify), base.state, "{at}");
        same_everywhere(cluster, &run.name);
        section.add(part, Outcome::of(run.code).unwrap());
    }
    section.publish();
    println!("Galera {fault}: {} runs", runs.len());
}

#[test]
fn agents_all_over_the_cluster_leave_exactly_one_bootstrap() {
    let (cluster, _turn) = Galera::shared();
    let cluster = cluster.lock().unwrap();
    cluster.admin(0).database("storm");
    let agents: Vec<Agent> = (0..15)
        .map(|number: usize| {
            let hosts = [0, 1, 2].map(|shift| cluster.address((number + shift) % NODES));
            Agent::new(&format!("db{number}.example"), &Galera::dsn("storm", &hosts))
        })
        .collect();
    let mut running: Vec<_> = agents
        .iter()
        .map(|agent| agent.command().spawn().unwrap())
        .collect();
    for (child, agent) in running.iter_mut().zip(&agents) {
        let status = child.wait_timeout(Duration::from_secs(150)).unwrap();
        let status = status.expect("an agent hangs");
        assert!(status.success(), "{status}: {}", agent.log());
    }
    let mut created: BTreeMap<String, usize> = BTreeMap::new();
    for agent in &agents {
        for (name, outcome) in agent.operations() {
            *created.entry(name).or_insert(0) += usize::from(outcome == "created");
        }
    }
    let once = OPERATIONS.map(|name| (name.to_owned(), 1));
    assert_eq!(created, BTreeMap::from(once));
    same_everywhere(&cluster, "storm");
    end_state(&mut cluster.admin(2), "storm", true);
}
