//! Agents on a real Galera cluster of three servers: started all over it at
//! once, with a server killed, cut off or stripped of its quorum while they
//! work, and losing against each other at COMMIT.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod left;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sf_firstboot::database::Connector;
use sf_firstboot::gate;
use support::agent::{Agent, OPERATIONS};
use support::crossing::{self, Ground};
use support::galera::{Galera, NODES};
use support::handover;
use support::lot::{Barrier, Lot, Run, Runs as _};
use support::maker;
use support::matrix::{Outcome, Section};
use support::metadata::{bootstrap, bootstrapped, dump, inputs};
use support::node::Node;
use support::normal::{EndState, end_state};
use support::proxy::{At, Proxy, Side, Then};
use support::rehearsal;
use support::replay::{Random, history, one_holder};
use support::steps::Script;
use support::ways::{self, Booting, WAYS};
use support::{block_on, connector, dsn_at};

/// What an undisturbed run sends, and what it leaves.
struct Undisturbed {
    script: Script,
    state: EndState,
    /// Ways through the gate.
    gate: Vec<ways::Ground>,
}

/// The cluster, whole even after a test that failed.
fn lock(cluster: &Mutex<Galera>) -> MutexGuard<'_, Galera> {
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.mend();
    cluster
}

/// An empty database, on all servers.
fn make(cluster: &Galera, name: &str) {
    cluster.admin(0).database(name);
    everywhere(cluster);
}

/// Until all servers have what the first has.
fn everywhere(cluster: &Galera) {
    for node in 1..NODES {
        // Not before what was done there is done here.
        cluster
            .admin(node)
            .rows("SET STATEMENT wsrep_sync_wait = 7 FOR SELECT COUNT(*) FROM mysql.user");
    }
}

/// A database with a proxy before server 0; the other servers come after it.
fn place(cluster: &Galera, name: &str) -> (Proxy, String) {
    make(cluster, name);
    let proxy = Proxy::before(cluster.address(0));
    let through: SocketAddr = (Ipv4Addr::LOCALHOST, proxy.port).into();
    let dsn = Galera::dsn(name, &[through, cluster.address(1), cluster.address(2)]);
    (proxy, dsn)
}

/// The servers behind the first one.
fn others(cluster: &Galera) -> [SocketAddr; 2] {
    [1, 2].map(|node| cluster.address(node))
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
        gate: Vec::new(),
    }
}

/// The same, and what undisturbed passages of the gate send and leave.
fn with_the_gate(cluster: &Galera) -> Undisturbed {
    let mut base = undisturbed(cluster);
    let first = cluster.address(0);
    base.gate = ways::Ground::all(cluster.admin(0), first, &others(cluster), "undisturbed");
    base
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

/// Compares what the runs left on every server.
fn judge(cluster: &Galera, base: &Undisturbed, runs: &[Run<Agent>], section: &mut Section) {
    let mut admin = cluster.admin(0);
    admin.run("SET SESSION wsrep_sync_wait = 7");
    for run in runs {
        let part = base.script.part(run.point.number);
        let verify = part.starts_with("key/") || run.point.number % 8 == 0;
        let at = format!("{:?} of {part}", run.point);
        assert_eq!(end_state(&mut admin, &run.name, verify), base.state, "{at}");
        same_everywhere(cluster, &run.name);
        section.add(part, Outcome::of(run.code).unwrap());
    }
}

/// Compares what the nodes that passed the gate left on every server.
fn judge_passages(
    cluster: &Galera,
    ground: &ways::Ground,
    runs: &[Run<Booting>],
    section: &mut Section,
) {
    let mut admin = cluster.admin(0);
    admin.run("SET SESSION wsrep_sync_wait = 7");
    for run in runs {
        run.agent.gets_ready();
        let way = ground.way.name;
        let at = format!("{:?} of {way}: {}", run.point, run.agent.log());
        ground.judge(&mut admin, &run.name, &at);
        same_everywhere(cluster, &run.name);
        section.add(way, Outcome::of(run.code).unwrap());
    }
}

#[test]
fn agents_all_over_the_cluster_leave_exactly_one_bootstrap() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    make(&cluster, "storm");
    let agents: Vec<Agent> = (0..15)
        .map(|number: usize| {
            let hosts = [0, 1, 2].map(|shift| cluster.address((number + shift) % NODES));
            Agent::new(
                &format!("db{number}.example"),
                &Galera::dsn("storm", &hosts),
            )
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

/// For every operation two agents on two servers stand before its COMMIT and
/// are let go together: the group puts one of them first, and the other learns
/// of it by error 1213 in answer to its COMMIT.
#[test]
fn whoever_loses_at_commit_adopts_what_the_winner_wrote() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    let base = undisturbed(&cluster);
    let mut section = Section::new(
        "Galera",
        "two nodes commit the same operation at once",
        "Two agents on two servers stand before the COMMIT of the operation and are let go together; one gets error 1213 in answer to it.",
        &base.script,
    );
    let operations: Vec<_> = base
        .script
        .parts()
        .into_iter()
        .filter(|part| OPERATIONS.contains(part))
        .collect();
    for (index, operation) in operations.into_iter().enumerate() {
        let name = format!("conflict{index}");
        make(&cluster, &name);
        let barrier = Arc::new(Barrier::default());
        let mut contenders = Vec::new();
        for node in 0..2 {
            let proxy = Proxy::before(cluster.address(node));
            // The first agent has made all that comes before; for the second
            // this is the first that it commits.
            let nth = if node == 0 { index + 1 } else { 1 };
            let hold = Arc::clone(&barrier);
            proxy.arm_then(At::Commit(nth), Side::Before, move || {
                hold.park(node);
                Then::Pass
            });
            let agent = Agent::new("db1.example", &support::dsn(&name, proxy.port));
            let child = agent.command().spawn().unwrap();
            assert!(barrier.wait_for(node + 1), "{operation}: {}", agent.log());
            contenders.push((proxy, agent, child));
        }
        barrier.open();
        let mut lost = Vec::new();
        for (proxy, agent, child) in &mut contenders {
            let status = child.wait_timeout(Duration::from_mins(1)).unwrap();
            let status = status.expect("an agent hangs");
            assert!(status.success(), "{operation}: {status}: {}", agent.log());
            lost.extend(proxy.errors());
            section.add(operation, Outcome::Finished);
        }
        let at_commit =
            |(number, command): &(u16, String)| *number == 1213 && command.ends_with("COMMIT");
        assert!(lost.iter().any(at_commit), "{operation}: {lost:?}");
        let state = end_state(&mut cluster.admin(0), &name, true);
        assert_eq!(state, base.state, "{operation}");
        same_everywhere(&cluster, &name);
    }
    section.publish();
}

/// As on one server (`gate.rs`), with the two nodes on two servers, where locks
/// do not meet and the loser learns of it at COMMIT.
#[test]
fn passages_that_cross_on_two_servers_leave_what_the_rules_allow() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    make(&cluster, "crossing");
    let (first, second) = (cluster.address(0), cluster.address(1));
    let mut ground = Ground::new("crossing", first, second, cluster.admin(1));
    let points: usize = crossing::ALL.iter().map(|each| ground.cross(each)).sum();
    same_everywhere(&cluster, "crossing");
    println!(
        "Galera: {} crossings at {points} points",
        crossing::ALL.len()
    );
}

/// As on one server (`claims.rs`), with the holder on another one than the desk
/// and the heir.
#[test]
fn the_role_is_handed_over_while_its_holder_passes_on_another_server() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    make(&cluster, "handover");
    let (first, second) = (cluster.address(0), cluster.address(1));
    let mut ground = handover::Ground::new("handover", first, second, cluster.admin(1));
    println!("Galera: handed over at {} points", ground.hand_over());
    same_everywhere(&cluster, "handover");
}

/// As on one server (`passage.rs`), with the desk on another server than the
/// nodes: what it holds there must give way to what they commit.
#[test]
fn a_rehearsal_leaves_everything_as_it_was_on_all_servers() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    make(&cluster, "rehearsed");
    let (first, second) = (cluster.address(0), cluster.address(1));
    let admins = (0..NODES).map(|node| cluster.admin(node)).collect();
    let points = rehearsal::Ground::new("rehearsed", first, second, admins).rehearse();
    println!("Galera: rehearsals crossed at {points} points");
}

/// Connectors to the servers one by one, for a database that is bootstrapped.
fn one_by_one(cluster: &Galera, name: &str) -> Vec<Connector> {
    make(cluster, name);
    let dsn = |node| Galera::dsn(name, &[cluster.address(node)]);
    bootstrapped(&dsn(0));
    (0..NODES).map(|node| connector(&dsn(node))).collect()
}

#[test]
fn one_of_the_nodes_that_want_the_network_role_on_all_servers_gets_it() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    for round in 0..4 {
        let name = format!("claim{round}");
        let servers = one_by_one(&cluster, &name);
        // Every other round the claim comes with a new series.
        let winner = one_holder(&servers, 9, 7 + round % 2);
        let mut admin = cluster.admin(2);
        admin.run("SET SESSION wsrep_sync_wait = 7");
        let held = admin.rows(&format!("SELECT role, fqdn FROM `{name}`.bootstrap_claims"));
        assert_eq!(held, [["network".to_owned(), winner]]);
        same_everywhere(&cluster, &name);
    }
}

#[test]
fn histories_whose_steps_go_to_one_server_after_the_other() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    let mut random = Random(5);
    for round in 0..2 {
        let name = format!("history{round}");
        let servers = one_by_one(&cluster, &name);
        // Compared after each step: what another server has committed must be there.
        let mut admin = cluster.admin(0);
        admin.run("SET SESSION wsrep_sync_wait = 7");
        history(&servers, &mut admin, &name, &mut random, 30);
        same_everywhere(&cluster, &name);
    }
}

/// A database-tier node whose release makes its tables, with its database on the
/// server behind the proxy.
fn maker_node(proxy: &Proxy, name: &str, fqdn: &str) -> Node {
    let node = maker::node(proxy.port, fqdn);
    node.edit("mysql://sf:", &format!("mysql://{name}:"));
    node.edit("/shakenfist\"", &format!("/{name}\""));
    node
}

/// Who makes the release's tables is settled by one row, and the tables come by
/// DDL that goes to all servers on a way of its own.
#[test]
fn of_nodes_on_several_servers_one_makes_the_releases_tables() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    let proxies = [0, 1, 2].map(|node| Proxy::before(cluster.address(node)));
    let holder = |name: &str| {
        let mut admin = cluster.admin(2);
        admin.run("SET SESSION wsrep_sync_wait = 7");
        admin.rows(&format!(
            "SELECT fqdn FROM `{name}`.bootstrap_claims WHERE role = 'schema'"
        ))
    };
    for round in 0..3 {
        let name = format!("maker{round}");
        make(&cluster, &name);
        // All of them stand before taking the row, and are let go together.
        let barrier = Arc::new(Barrier::default());
        let nodes: Vec<Node> = ["a.example", "bb.example", "ccc.example"]
            .iter()
            .zip(&proxies)
            .enumerate()
            .map(|(index, (fqdn, proxy))| {
                let hold = Arc::clone(&barrier);
                proxy.arm_then(
                    At::Saying("INSERT INTO bootstrap_claims"),
                    Side::Before,
                    move || {
                        hold.park(index);
                        Then::Pass
                    },
                );
                maker_node(proxy, &name, fqdn)
            })
            .collect();
        let running: Vec<_> = nodes.iter().map(|node| node.start(&["run"])).collect();
        assert!(barrier.wait_for(nodes.len()), "{:?}", barrier.parked());
        barrier.open();
        for (node, running) in nodes.iter().zip(running) {
            maker::checked(node, Node::end(running), 0);
        }
        assert_eq!(nodes.iter().map(maker::runs).sum::<usize>(), 1);
        assert!(holder(&name).is_empty());
        same_everywhere(&cluster, &name);
    }

    // The holder is killed in the middle; nobody else goes on, and it does, on
    // another server.
    make(&cluster, "killed");
    let one = maker_node(&proxies[0], "killed", "db1.example");
    let half = "CREATE TABLE IF NOT EXISTS namespaces \
                (name varchar(255) NOT NULL PRIMARY KEY, version int NOT NULL)";
    maker::sf_ctl(&one, maker::WAIT, half);
    let (mut child, _) = one.start(&["run"]);
    maker::wait_for("the command does not start", || maker::runs(&one) == 1);
    child.kill().unwrap();
    let other = maker_node(&proxies[1], "killed", "db22.example");
    other.edit("wait = \"20s\"", "wait = \"2s\"");
    let ran = maker::run(&other, 75);
    assert!(ran.stderr.contains("SF-SCHEMA-HELD"), "{}", ran.stderr);
    assert_eq!(holder("killed"), [["db1.example"]]);
    let port = |proxy: &Proxy| format!(":{}/", proxy.port);
    one.edit(&port(&proxies[0]), &port(&proxies[2]));
    maker::sf_ctl(
        &one,
        "",
        &format!("DROP TABLE IF EXISTS namespaces; {}", maker::DEVELOP),
    );
    let ran = maker::run(&one, 0);
    assert!(
        ran.stderr.contains("again after an interruption"),
        "{}",
        ran.stderr
    );
    maker::run(&other, 0);
    assert_eq!((maker::runs(&one), maker::runs(&other)), (2, 0));
    assert!(holder("killed").is_empty());
    same_everywhere(&cluster, "killed");
}

/// Servers may be set to answer while they lag: sessions of the agent are not
/// among those that put up with it.
#[test]
fn a_server_that_allows_dirty_reads_is_read_causally() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    let servers = one_by_one(&cluster, "dirty");
    let mut admin = cluster.admin(1);
    admin.run("SET GLOBAL wsrep_dirty_reads = 1");
    // It has what others commit, and does not apply it for as long as this lock stands.
    let mut blocker = cluster.admin(1);
    blocker.run("FLUSH TABLES `dirty`.bootstrap_nodes WITH READ LOCK");
    support::metadata::pass(&servers[0], 7, "h1").unwrap();
    let (late, seen) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            block_on(async {
                let mut session = servers[1].connect().await.unwrap();
                let series = "0.7".parse().unwrap();
                sf_firstboot::gate::facts(&mut session, "h1", series)
                    .await
                    .unwrap()
                    .own
            })
        });
        std::thread::sleep(Duration::from_secs(1));
        let late = !reader.is_finished();
        blocker.run("UNLOCK TABLES");
        (late, reader.join().unwrap())
    });
    admin.run("SET GLOBAL wsrep_dirty_reads = 0");
    assert!(late && seen.is_some(), "late {late}: {seen:?}");
}

/// Who changes a schema server by server has DDL stay on the one that it is given.
#[test]
fn tables_are_made_on_all_servers_whatever_one_of_them_is_set_to() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    make(&cluster, "rolling");
    let mut admin = cluster.admin(0);
    admin.run("SET GLOBAL wsrep_OSU_method = 'RSU'");
    let dsn = dsn_at("rolling", cluster.address(0));
    let made = bootstrap(&connector(&dsn), inputs());
    admin.run("SET GLOBAL wsrep_OSU_method = 'TOI'");
    made.unwrap();
    same_everywhere(&cluster, "rolling");
}

/// Streamed transactions hold their rows on all servers; a rehearsal is none.
#[test]
fn a_rehearsal_on_one_server_holds_up_nobody_on_another() {
    let (cluster, _turn) = Galera::shared();
    let cluster = lock(&cluster);
    let servers = one_by_one(&cluster, "streamed");
    let set = |size| {
        cluster.admin(0).run(&format!(
            "SET GLOBAL wsrep_trx_fragment_unit = 'statements', wsrep_trx_fragment_size = {size}"
        ));
    };
    let image = support::metadata::image(7);
    let node = gate::Candidate::Here(support::metadata::node("h1"));
    let proxy = Proxy::before(cluster.address(0));
    let desk = connector(&support::dsn("streamed", proxy.port));
    let barrier = Arc::new(Barrier::default());
    let hold = Arc::clone(&barrier);
    let last = At::Saying("UPDATE bootstrap_nodes SET phase");
    proxy.arm_then(last, Side::Before, move || {
        hold.park(0);
        Then::Pass
    });
    set(1);
    let took = std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            block_on(async {
                let mut session = desk.connect().await.unwrap();
                drop(gate::rehearse(&mut session, &image, &node).await);
            });
        });
        assert!(barrier.wait_for(1));
        let started = std::time::Instant::now();
        let passed = support::metadata::pass(&servers[1], 7, "h1");
        let took = started.elapsed();
        barrier.open();
        tried.join().unwrap();
        passed.map(|_| took)
    });
    set(0);
    // Else until the server throws the desk out, after 5 s.
    assert!(
        took.as_ref().is_ok_and(|took| took.as_secs() < 4),
        "{took:?}"
    );
}
