//! The network role's claim and machines under one name, against a real server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sf_contract::failure::Kind;
use sf_contract::role::Role;
use sf_firstboot::claim::Claim;
use sf_firstboot::database::Connector;
use sf_firstboot::failure::Failure;
use sf_firstboot::fleet::{self, State, hand, trace};
use sf_firstboot::gate::{self, Clearance, Node, Progress};
use support::handover::Ground;
use support::lot::Barrier;
use support::metadata::{bootstrapped, dump, image, within};
use support::proxy::{At, Proxy, Side, Then};
use support::replay::one_holder;
use support::{Admin, Server, block_on, connector, shared};

fn machine(fqdn: &str, role: Role, machine: &str) -> Node {
    Node {
        fqdn: fqdn.into(),
        role,
        instance_id: machine.into(),
    }
}

fn pass(connector: &Connector, minor: u64, node: &Node) -> Result<Clearance, Failure> {
    block_on(gate::pass(
        connector,
        &image(minor),
        node,
        "boot-1",
        within(20),
        &mut |_| {},
    ))
}

fn claims(admin: &mut Admin, name: &str) -> Vec<String> {
    admin
        .rows(&format!(
            "SELECT role, fqdn, instance_id FROM `{name}`.bootstrap_claims"
        ))
        .iter()
        .map(|row| row.join(" "))
        .collect()
}

/// A trace has three seconds, which are few on a busy machine: one that has used
/// them up is left again.
fn traced(mut leave: impl FnMut()) {
    for _ in 0..20 {
        let began = Instant::now();
        leave();
        if began.elapsed() < Duration::from_millis(2900) {
            return;
        }
    }
    panic!("no trace can be left");
}

fn author() -> hand::Author {
    hand::Author {
        user: "alice".into(),
        host: "desk".into(),
    }
}

fn forget(connector: &Connector, fqdn: &str) -> bool {
    support::metadata::forget(connector, fqdn, &author()).unwrap()
}

#[test]
fn of_many_network_nodes_at_once_exactly_one_holds_the_role() {
    let server = shared();
    for round in 0..5 {
        let name = format!("claim{round}");
        let connector = bootstrapped(&server.database(&name));
        // Every other round the claim comes with a new series.
        let winner = one_holder(&[connector], 8, 7 + round % 2);
        let mut admin = server.admin();
        let held = claims(&mut admin, &name);
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(held[0].starts_with(&format!("network {winner} ")));
        // A loser has no row: its row and its claim come together.
        assert_eq!(
            admin.cell(&format!("SELECT COUNT(*) FROM `{name}`.bootstrap_nodes")),
            "1"
        );
    }
}

/// The role is released, and handed over, while its holder passes the gate.
#[test]
fn who_is_cleared_for_the_role_last_holds_it() {
    let server = shared();
    server.database("crossed");
    let at = server.address();
    let mut ground = Ground::new("crossed", at, at, server.admin());
    println!("handed over at {} points", ground.hand_over());
}

#[test]
fn a_claim_is_kept_resumed_refused_to_a_copy_and_handed_over() {
    let server = shared();
    let connector = bootstrapped(&server.database("handover"));
    let mut admin = server.admin();
    let holder = machine("net1", Role::Network, "disk1/hw1");
    pass(&connector, 7, &holder).unwrap();
    let since = admin.cell("SELECT CAST(claimed_at AS CHAR) FROM handover.bootstrap_claims");
    pass(&connector, 7, &holder).unwrap();

    // A new disk in the same machine resumes; since when stays what it was.
    let reimaged = machine("net1", Role::Network, "disk2/hw1");
    pass(&connector, 7, &reimaged).unwrap();
    assert_eq!(claims(&mut admin, "handover"), ["network net1 disk2/hw1"]);
    assert_eq!(
        admin.cell("SELECT CAST(claimed_at AS CHAR) FROM handover.bootstrap_claims"),
        since
    );

    // A copy of its disk in another machine, in its role or another.
    let before = dump(&mut admin, "handover");
    for role in [Role::Network, Role::Hypervisor] {
        let failure = pass(&connector, 7, &machine("net1", role, "disk3/hw2")).unwrap_err();
        assert_eq!(failure.code.id, "SF-NODE-CLONE", "{failure}");
    }
    // And its trace does not touch the original's row.
    block_on(trace::stopped(
        &connector,
        &image(7),
        &machine("net1", Role::Network, "disk3/hw2"),
        "gate",
        (Kind::Refused, "SF-NODE-CLONE"),
    ));
    assert_eq!(dump(&mut admin, "handover"), before);

    // Handed over: the other one is refused before, and taken after.
    let other = machine("net2", Role::Network, "d/h");
    assert_eq!(
        pass(&connector, 7, &other).unwrap_err().code.id,
        "SF-CLAIM-HELD"
    );
    let network = || support::metadata::claim(&connector, "network").unwrap();
    let release =
        |seen: &Claim| block_on(hand::release(&connector, seen, &author(), within(10))).unwrap();
    let seen = network();
    let wrong = Claim {
        fqdn: "net2".into(),
        ..seen.clone()
    };
    assert!(!release(&wrong), "not the holder");
    pass(&connector, 7, &reimaged).unwrap();
    assert!(!release(&seen), "it has booted since");
    let seen = network();
    assert!(release(&seen));
    assert!(!release(&seen), "twice");
    pass(&connector, 7, &other).unwrap();
    assert_eq!(claims(&mut admin, "handover"), ["network net2 d/h"]);
    let failure = pass(&connector, 7, &reimaged).unwrap_err();
    assert!(failure.what.contains("net2 holds it since"), "{failure}");

    // A node that has another role now leaves it.
    pass(&connector, 7, &machine("net2", Role::Hypervisor, "d/h")).unwrap();
    assert!(claims(&mut admin, "handover").is_empty());
    pass(&connector, 7, &reimaged).unwrap();

    // Replaced hardware: forgotten once, it comes in under its name.
    assert!(forget(&connector, "net1"));
    assert!(!forget(&connector, "net1"), "twice");
    pass(&connector, 7, &machine("net1", Role::Network, "disk4/hw3")).unwrap();
    assert_eq!(claims(&mut admin, "handover"), ["network net1 disk4/hw3"]);

    // Who did what is kept, and what was there before.
    let events = admin.rows(
        "SELECT action, subject, detail, by_user, by_host FROM handover.bootstrap_events ORDER BY at",
    );
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        events[0],
        ["release-claim", "network", "held by net1", "alice", "desk"]
    );
    assert_eq!(events[1][..2], ["forget", "net1"]);
    assert!(
        events[1][2].starts_with("role network, series 0.7, image 0.7.1-1, phase gate")
            && events[1][2].ends_with("claim network"),
        "{events:?}"
    );
}

/// The holder boots when the command has looked, and before it deletes.
#[test]
fn a_holder_that_boots_under_the_command_keeps_its_role() {
    let server = shared();
    let direct = bootstrapped(&server.database("kept"));
    let proxy = Proxy::start(server.port);
    let slow = connector(&support::dsn("kept", proxy.port));
    let mut admin = server.admin();
    let node = machine("net1", Role::Network, "d/h");
    pass(&direct, 7, &node).unwrap();
    let seen = support::metadata::claim(&direct, "network").unwrap();
    let barrier = Arc::new(Barrier::default());
    let hold = Arc::clone(&barrier);
    let point = At::Saying("DELETE FROM bootstrap_claims");
    proxy.arm_then(point, Side::Before, move || {
        hold.park(0);
        Then::Pass
    });
    let released = std::thread::scope(|scope| {
        let who = author();
        let (slow, seen) = (&slow, &seen);
        let desk = scope.spawn(move || block_on(hand::release(slow, seen, &who, within(20))));
        assert!(barrier.wait_for(1));
        pass(&direct, 7, &node).unwrap();
        barrier.open();
        desk.join().unwrap()
    });
    assert!(!released.unwrap(), "it has booted since");
    assert_eq!(claims(&mut admin, "kept"), ["network net1 d/h"]);
    assert_eq!(
        admin.cell("SELECT COUNT(*) FROM kept.bootstrap_events"),
        "0"
    );
}

/// Between the look and the answer to the question the node boots, as far as its
/// row or only to the making of the release's tables.
#[test]
fn a_node_that_has_booted_since_it_was_seen_is_not_forgotten() {
    let server = shared();
    let connector = bootstrapped(&server.database("seen"));
    let mut admin = server.admin();
    let node = machine("net1", Role::Network, "d/h");
    pass(&connector, 7, &node).unwrap();
    let seen = support::metadata::seen(&connector, "net1");
    assert!(seen.last_boot.is_some() && seen.roles == ["network"]);
    pass(&connector, 7, &node).unwrap();
    let now = support::metadata::seen(&connector, "net1");
    admin.run("INSERT INTO seen.bootstrap_claims VALUES ('schema', 'net1', 'd/h', 1)");
    let before = dump(&mut admin, "seen");
    let rowless = hand::Seen {
        last_boot: None,
        ..now.clone()
    };
    for seen in [seen, rowless, now] {
        let who = author();
        let done = hand::forget(&connector, &seen, &who, within(10));
        assert!(!block_on(done).unwrap(), "{seen:?}");
        assert_eq!(dump(&mut admin, "seen"), before);
    }
    assert!(forget(&connector, "net1"));
    assert!(claims(&mut admin, "seen").is_empty());
}

/// A row of a machine that has never passed stands in nobody's way; of two that
/// find it at once only one may have it.
#[test]
fn of_two_machines_of_one_name_at_once_one_passes() {
    let server = shared();
    let proxy = Proxy::start(server.port);
    for minor in [7, 8] {
        let name = format!("twins{minor}");
        let direct = bootstrapped(&server.database(&name));
        let slow = support::connector(&support::dsn(&name, proxy.port));
        let refused = |node: &Node| {
            let why = (Kind::Refused, "SF-GATE-VERSION");
            traced(|| block_on(trace::stopped(&direct, &image(9), node, "gate", why)));
        };
        refused(&machine("h1", Role::Hypervisor, "a"));
        let barrier = Arc::new(Barrier::default());
        let hold = Arc::clone(&barrier);
        proxy.arm_then(
            At::Saying("UPDATE bootstrap_nodes"),
            Side::Before,
            move || {
                hold.park(0);
                Then::Pass
            },
        );
        let late = std::thread::scope(|scope| {
            let late = scope.spawn(|| pass(&slow, minor, &machine("h1", Role::Hypervisor, "b")));
            assert!(barrier.wait_for(1));
            pass(&direct, 7, &machine("h1", Role::Hypervisor, "a")).unwrap();
            barrier.open();
            late.join().unwrap()
        });
        assert_eq!(late.unwrap_err().code.id, "SF-NODE-CLONE");
        let row =
            format!("SELECT instance_id, series FROM `{name}`.bootstrap_nodes WHERE fqdn = 'h1'");
        assert_eq!(server.admin().rows(&row), [["a", "0.7"]]);
    }
}

#[test]
fn forgetting_frees_a_series_and_rows_of_others_stay() {
    let server = shared();
    let connector = bootstrapped(&server.database("freed"));
    pass(&connector, 7, &machine("dead", Role::Hypervisor, "a")).unwrap();
    pass(&connector, 8, &machine("h1", Role::Hypervisor, "b")).unwrap();
    let newer = machine("h2", Role::Hypervisor, "c");
    let failure = pass(&connector, 9, &newer).unwrap_err();
    assert!(
        failure.what.contains("0.7 (dead)")
            && failure.remedy_text().contains("cluster forget NODE"),
        "{failure}"
    );
    assert!(forget(&connector, "dead"));
    pass(&connector, 9, &newer).unwrap();
    let mut admin = server.admin();
    assert_eq!(
        admin.rows("SELECT fqdn, series FROM freed.bootstrap_nodes ORDER BY fqdn"),
        [["h1", "0.8"], ["h2", "0.9"]]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn the_fleet_is_seen_from_one_desk() {
    let server = shared();
    let dsn = server.database("fleet");
    let empty = support::connector(&dsn);
    let look = |connector: &Connector| {
        block_on(async {
            let mut session = connector.connect().await.unwrap();
            fleet::read(&mut session).await.unwrap()
        })
    };
    let seen = look(&empty);
    assert!(!seen.bootstrapped && seen.nodes.is_empty());

    let connector = bootstrapped(&dsn);
    let net = machine("net1.example", Role::Network, "n");
    let clearance = pass(&connector, 7, &net).unwrap();
    pass(&connector, 7, &machine("h1.example", Role::Hypervisor, "a")).unwrap();
    block_on(async {
        let mut session = connector.connect().await.unwrap();
        let started = Progress {
            phase: "start",
            outcome: Some(trace::STARTED),
            last_error: None,
        };
        gate::progress(&mut session, &clearance, &started)
            .await
            .unwrap();
    });
    let seen = look(&connector);
    let states = |seen: &fleet::Fleet| -> Vec<(String, State)> {
        seen.nodes
            .iter()
            .map(|node| (node.fqdn.clone(), node.state))
            .collect()
    };
    assert_eq!(
        states(&seen),
        [
            ("h1.example".to_owned(), State::Booting),
            ("net1.example".to_owned(), State::Started)
        ]
    );

    // The daemons answer, or do not; another machine's answer counts for nothing.
    traced(|| block_on(trace::answered(&connector, &net, None)));
    let stranger = machine("h1.example", Role::Hypervisor, "stranger");
    traced(|| block_on(trace::answered(&connector, &stranger, None)));
    // Refused and never cleared; failed in preflight; refused, but holding a series.
    let stop = |minor: u64, node: &Node, phase: &str, kind, code| {
        let image = image(minor);
        let stopped = || trace::stopped(&connector, &image, node, phase, (kind, code));
        traced(|| block_on(stopped()));
    };
    let new = machine("h2.example", Role::Hypervisor, "c");
    stop(9, &new, "gate", Kind::Refused, "SF-GATE-VERSION");
    let broken = machine("h3.example", Role::Hypervisor, "d");
    stop(
        7,
        &broken,
        "preflight",
        Kind::Configuration,
        "SF-META-INVALID",
    );
    stop(
        9,
        &machine("h1.example", Role::Hypervisor, "a"),
        "preflight",
        Kind::Refused,
        "SF-GATE-VERSION",
    );
    let seen = look(&connector);
    assert_eq!(
        states(&seen),
        [
            ("h3.example".to_owned(), State::Failed),
            ("h1.example".to_owned(), State::Refused),
            ("h2.example".to_owned(), State::Refused),
            ("net1.example".to_owned(), State::Ready)
        ]
    );
    assert_eq!(
        seen.nodes[1].series.as_deref(),
        Some("0.7"),
        "it may go back"
    );
    assert_eq!(seen.nodes[1].image_version, "0.9.1-1");
    assert_eq!(seen.nodes[2].series, None);
    assert_eq!((seen.series.len(), seen.series[0].nodes), (1, 2));
    assert_eq!(seen.claims[0].fqdn, "net1.example");
    assert!(seen.bootstrapped && seen.operations.len() > 3);

    // A node without a series holds no slot, and comes in when it may.
    pass(&connector, 8, &machine("h1.example", Role::Hypervisor, "a")).unwrap();
    pass(&connector, 8, &net).unwrap();
    pass(&connector, 9, &new).unwrap();
    assert_eq!(
        server
            .admin()
            .rows("SELECT slot, series FROM fleet.cluster_series ORDER BY slot"),
        [["0", "0.9"], ["1", "0.8"]]
    );

    // A database that does not answer costs a node seconds, not its boot.
    let began = Instant::now();
    let nobody = support::connector(&support::dsn("fleet", support::free_port()));
    block_on(trace::stopped(
        &nobody,
        &image(7),
        &new,
        "gate",
        (Kind::Refused, "SF-X"),
    ));
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// A server that waits for its replica is at a COMMIT for a while. Who has lost it
/// there and tries again finds nothing left to do, by its own doing.
#[test]
fn what_was_done_by_hand_is_not_called_undone_while_it_commits() {
    let server = Server::start(&[
        "--log-bin",
        "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
        "--rpl-semi-sync-master-timeout=2000",
    ]);
    let proxy = Proxy::start(server.port);
    let direct = bootstrapped(&server.database("slow"));
    let connector = connector(&support::dsn("slow", proxy.port));
    let node = machine("net1", Role::Network, "d/h");
    let who = author();
    let slowly = || {
        let mut admin = server.admin();
        proxy.arm_then(At::Commit(1), Side::Before, move || {
            admin.run("SET GLOBAL rpl_semi_sync_master_enabled = 1");
            Then::Leave
        });
    };
    let quickly = || {
        assert!(!proxy.disarm());
        server
            .admin()
            .run("SET GLOBAL rpl_semi_sync_master_enabled = 0");
    };
    pass(&direct, 7, &node).unwrap();
    let held = support::metadata::claim(&direct, "network").unwrap();
    slowly();
    let released = block_on(hand::release(&connector, &held, &who, within(20)));
    quickly();
    assert!(released.unwrap());
    pass(&direct, 7, &node).unwrap();
    let seen = support::metadata::seen(&direct, "net1");
    slowly();
    let forgotten = block_on(hand::forget(&connector, &seen, &who, within(20)));
    quickly();
    assert!(forgotten.unwrap());
    let events = "SELECT action FROM slow.bootstrap_events ORDER BY at";
    assert_eq!(server.admin().rows(events), [["release-claim"], ["forget"]]);
}
