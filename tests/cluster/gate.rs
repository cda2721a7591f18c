//! The gate against a real server, and the wait before it: the rows that are
//! written, those that are not, and that the schema itself keeps a third series
//! out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sf_firstboot::bootstrap::wait_for_bootstrap;
use sf_firstboot::gate::{May, Progress, facts, progress, restart};
use support::crossing::{self, Ground};
use support::metadata::{bootstrap, bootstrapped, dump, image, inputs, node, pass, within};
use support::{Admin, PASSWORD, Server, block_on, connector, shared, wait_for};

fn series(admin: &mut Admin, name: &str) -> Vec<String> {
    admin
        .rows(&format!(
            "SELECT slot, series FROM `{name}`.cluster_series ORDER BY slot"
        ))
        .iter()
        .map(|row| row.join(":"))
        .collect()
}

fn nodes(admin: &mut Admin, name: &str) -> Vec<String> {
    admin
        .rows(&format!(
            "SELECT fqdn, series FROM `{name}`.bootstrap_nodes ORDER BY fqdn"
        ))
        .iter()
        .map(|row| row.join(":"))
        .collect()
}

#[test]
fn before_the_bootstrap_nodes_wait_and_write_nothing() {
    let server = shared();
    let connector = connector(&server.database("early"));
    let failure = pass(&connector, 7, "h1").unwrap_err();
    assert_eq!(failure.code.id, "SF-GATE-WAITING");
    assert_eq!(failure.kind().exit_code(), 75);
    assert!(dump(&mut server.admin(), "early").is_empty());
}

#[test]
fn a_rolling_upgrade_from_beginning_to_end() {
    let server = shared();
    let connector = bootstrapped(&server.database("upgrade"));
    let mut admin = server.admin();
    for fqdn in ["h1", "h2", "n1"] {
        let clearance = pass(&connector, 7, fqdn).unwrap();
        assert_eq!(clearance.record().fqdn, fqdn);
        assert_eq!(clearance.record().series, image(7).series);
        assert_eq!(clearance.record().boot_id, "boot-1");
    }
    assert_eq!(series(&mut admin, "upgrade"), ["0:0.7"]);

    // Two away: refused, and nothing is written.
    let before = dump(&mut admin, "upgrade");
    let failure = pass(&connector, 9, "h1").unwrap_err();
    assert_eq!(failure.code.id, "SF-GATE-VERSION");
    assert_eq!(failure.kind().exit_code(), 77);
    assert!(
        failure
            .what
            .ends_with("the cluster runs series 0.7 (h2, n1)"),
        "{failure}"
    );
    assert_eq!(dump(&mut admin, "upgrade"), before);

    // One up: comes in beside.
    pass(&connector, 8, "h1").unwrap();
    assert_eq!(series(&mut admin, "upgrade"), ["0:0.7", "1:0.8"]);
    assert_eq!(nodes(&mut admin, "upgrade"), ["h1:0.8", "h2:0.7", "n1:0.7"]);

    // Both slots are held: neither N+2 nor N-1, and the holders are named.
    let before = dump(&mut admin, "upgrade");
    for minor in [9, 6] {
        let failure = pass(&connector, minor, "new").unwrap_err();
        assert_eq!(failure.code.id, "SF-GATE-VERSION");
        assert!(
            failure.what.contains("0.7 (h2, n1) and series 0.8 (h1)"),
            "{failure}"
        );
    }
    assert_eq!(dump(&mut admin, "upgrade"), before);

    // Rolled back and forth: the series that nobody runs any more goes.
    pass(&connector, 7, "h1").unwrap();
    assert_eq!(series(&mut admin, "upgrade"), ["0:0.7"]);
    for fqdn in ["h1", "h2"] {
        pass(&connector, 8, fqdn).unwrap();
        assert_eq!(series(&mut admin, "upgrade"), ["0:0.7", "1:0.8"]);
    }
    // The last node moves: the upgrade is over.
    pass(&connector, 8, "n1").unwrap();
    assert_eq!(series(&mut admin, "upgrade"), ["1:0.8"]);
    // And the next one can begin, in the slot that became free.
    pass(&connector, 9, "h1").unwrap();
    assert_eq!(series(&mut admin, "upgrade"), ["0:0.9", "1:0.8"]);
    // After the end of an upgrade its predecessor may come back.
    for fqdn in ["h2", "n1"] {
        pass(&connector, 9, fqdn).unwrap();
    }
    assert_eq!(series(&mut admin, "upgrade"), ["0:0.9"]);
    pass(&connector, 8, "h1").unwrap();
    assert_eq!(series(&mut admin, "upgrade"), ["0:0.9", "1:0.8"]);
}

/// What a decision reads does not grow with the fleet, and no series hides
/// another: three hundred nodes on two series, the last of them alone on one.
#[test]
fn a_large_fleet_is_counted_and_some_of_it_named() {
    // Not the shared one, since it counts what is read.
    let server = Server::start(&[]);
    let connector = bootstrapped(&server.database("large"));
    pass(&connector, 7, "old").unwrap();
    pass(&connector, 8, "zz").unwrap();
    let mut admin = server.admin();
    admin.run(
        "USE large; INSERT INTO bootstrap_nodes SELECT CONCAT('h', LPAD(seq, 3, '0')), \
         'hypervisor', '0.7', '', '', CONCAT('instance-of-h', LPAD(seq, 3, '0')), '', NULL, 0, NULL \
         FROM seq_1_to_298",
    );
    let about = |fqdn: &str, minor| {
        block_on(async {
            let mut session = connector.connect().await.unwrap();
            facts(&mut session, fqdn, image(minor).series)
                .await
                .unwrap()
        })
    };
    let told = |fqdn: &str, minor| {
        let facts = about(fqdn, minor);
        [7, 8].map(|held| facts.others_on(image(held).series).to_string())
    };
    let first = "h001, h002, h003, h004, h005";
    // A node that joins needs no count, one that may be refused does.
    assert_eq!(told("new", 8), [format!("{first} and more"), "zz".into()]);
    assert_eq!(
        told("new", 9),
        [format!("{first} and 294 more"), "zz".into()]
    );
    // A node is not among the others, named or not, and has its own row.
    assert_eq!(
        told("h003", 9),
        ["h001, h002, h004, h005, h006 and 293 more", "zz"]
    );
    let mut rows_read = |fqdn, minor| -> u64 {
        let mut so_far = || -> u64 {
            let read = admin.rows("SHOW GLOBAL STATUS LIKE 'Rows_read'");
            read[0][1].parse().unwrap()
        };
        let before = so_far();
        about(fqdn, minor);
        so_far() - before
    };
    // Three hundred rows are not read to find a few, nor for the series that
    // has none to find; only to count them. It is the same for a server that has
    // not looked yet how many there are.
    for _ in 0..2 {
        for (fqdn, minor) in [("new", 7), ("new", 8), ("h150", 7), ("zz", 8)] {
            let read = rows_read(fqdn, minor);
            assert!(read < 100, "{read} rows read about {fqdn}");
        }
        assert!(rows_read("new", 9) > 290);
        server.admin().rows("ANALYZE TABLE large.bootstrap_nodes");
    }
    let alone = about("zz", 8);
    assert!(alone.no_other_on(image(8).series) && !alone.no_other_on(image(7).series));
    assert_eq!(alone.own.unwrap().instance_id, "instance-of-zz");

    let before = dump(&mut admin, "large");
    let failure = pass(&connector, 9, "new").unwrap_err();
    assert_eq!(failure.code.id, "SF-GATE-VERSION");
    assert!(
        failure
            .what
            .ends_with("0.7 (h001, h002, h003, h004, h005 and 294 more) and series 0.8 (zz)"),
        "{failure}"
    );
    // Nor for the node that is alone on the series that would stay.
    assert_eq!(
        pass(&connector, 9, "zz").unwrap_err().code.id,
        "SF-GATE-VERSION"
    );
    assert_eq!(dump(&mut admin, "large"), before);

    // All but one have gone on: that one still holds its series.
    admin.run("UPDATE bootstrap_nodes SET series = '0.8' WHERE fqdn <> 'old'");
    assert_eq!(
        pass(&connector, 9, "new").unwrap_err().code.id,
        "SF-GATE-VERSION"
    );
    pass(&connector, 8, "old").unwrap();
    assert_eq!(series(&mut admin, "large"), ["1:0.8"]);
    pass(&connector, 9, "new").unwrap();
    assert_eq!(series(&mut admin, "large"), ["0:0.9", "1:0.8"]);
}

/// The last node of the old series boots N+2: its own row holds the slot that
/// it needs, and leaves it in the same transaction.
#[test]
fn the_last_node_of_a_series_may_skip_it() {
    let server = shared();
    let connector = bootstrapped(&server.database("skip"));
    let mut admin = server.admin();
    pass(&connector, 7, "h1").unwrap();
    pass(&connector, 8, "h2").unwrap();
    pass(&connector, 9, "h1").unwrap();
    assert_eq!(series(&mut admin, "skip"), ["0:0.9", "1:0.8"]);
    assert_eq!(nodes(&mut admin, "skip"), ["h1:0.9", "h2:0.8"]);
}

/// Whatever a program thinks: the tables themselves have no room for three.
#[test]
fn the_schema_refuses_a_third_series_and_orphans() {
    let server = shared();
    let connector = bootstrapped(&server.database("third"));
    pass(&connector, 7, "h1").unwrap();
    pass(&connector, 8, "h2").unwrap();
    let mut admin = server.admin();
    admin.run("USE third");
    let insert = |slot: u8, series: &str| {
        format!("INSERT INTO cluster_series VALUES ({slot}, '{series}', NULL, 'x', 0, 'x')")
    };
    for (sql, number) in [
        (insert(2, "0.9"), "4025"),
        (insert(1, "0.9"), "1062"),
        (insert(0, "0.7"), "1062"),
        ("UPDATE cluster_series SET slot = 2 WHERE slot = 1".to_owned(), "4025"),
        ("DELETE FROM cluster_series WHERE series = '0.7'".to_owned(), "1451"),
        ("UPDATE cluster_series SET series = '0.9' WHERE slot = 0".to_owned(), "1451"),
        ("UPDATE bootstrap_nodes SET series = '0.9'".to_owned(), "1452"),
        (
            "INSERT INTO bootstrap_nodes VALUES ('h9', 'network', '0.9', '', '', '', '', NULL, 0, NULL)".to_owned(),
            "1452",
        ),
    ] {
        let error = admin.try_run(&sql).expect_err(&sql);
        assert!(error.contains(&format!(": {number} ")), "{sql}: {error}");
    }
}

/// Twenty nodes of three series meet at once. Whoever wins, the record is one
/// that the rules allow, and every node that passed is in it.
#[test]
fn many_nodes_of_three_series_at_once_leave_two_at_most() {
    let server = shared();
    for round in 0..3 {
        let name = format!("meet{round}");
        let connector = bootstrapped(&server.database(&name));
        let threads: Vec<_> = (0..20)
            .map(|index: usize| {
                let connector = connector.clone();
                let minor = [6, 7, 8][index % 3];
                std::thread::spawn(move || {
                    (
                        minor,
                        pass(&connector, minor, &format!("h{index}")).map(drop),
                    )
                })
            })
            .collect();
        let mut passed = 0;
        for thread in threads {
            let (minor, result) = thread.join().unwrap();
            match result {
                Ok(()) => passed += 1,
                Err(failure) => {
                    assert_eq!(failure.code.id, "SF-GATE-VERSION", "{minor}: {failure}");
                }
            }
        }
        let mut admin = server.admin();
        let recorded = series(&mut admin, &name);
        assert!(recorded.len() <= 2, "{recorded:?}");
        let both = |a: &str, b: &str| {
            [a, b]
                .iter()
                .all(|s| recorded.iter().any(|slot| slot.ends_with(s)))
        };
        assert!(!both("0.6", "0.8"), "{recorded:?}");
        assert_eq!(nodes(&mut admin, &name).len(), passed);
        assert!(passed >= 7, "the cluster's own series always passes");
    }
}

#[test]
fn progress_is_kept_in_the_nodes_row() {
    let server = shared();
    let connector = bootstrapped(&server.database("progress"));
    let clearance = pass(&connector, 7, "h1").unwrap();
    let mut admin = server.admin();
    let row = |admin: &mut Admin| {
        admin.rows("SELECT role, image_version, instance_id, phase, outcome, last_error FROM progress.bootstrap_nodes")[0].join(" ")
    };
    assert_eq!(
        row(&mut admin),
        "hypervisor 0.7.1-1 instance-of-h1 gate NULL NULL"
    );
    block_on(async {
        let mut session = connector.connect().await.unwrap();
        let failed = Progress {
            phase: "ready",
            outcome: Some("failed"),
            last_error: Some("SF-READY-PROBE"),
        };
        progress(&mut session, &clearance, &failed).await.unwrap();
    });
    assert_eq!(
        row(&mut admin),
        "hypervisor 0.7.1-1 instance-of-h1 ready failed SF-READY-PROBE"
    );
    // The next boot starts a new story.
    pass(&connector, 7, "h1").unwrap();
    assert_eq!(
        row(&mut admin),
        "hypervisor 0.7.1-1 instance-of-h1 gate NULL NULL"
    );
}

#[test]
fn restarts_go_by_what_the_database_says_now() {
    let server = shared();
    let connector = bootstrapped(&server.database("restarts"));
    let clearance = pass(&connector, 7, "h1").unwrap();
    let live = || {
        block_on(async {
            let mut session = connector.connect().await.unwrap();
            facts(&mut session, "h1", image(7).series).await.unwrap()
        })
    };
    let ask = |facts: Option<&_>| {
        restart(
            &image_of(&clearance),
            &node("h1"),
            (Some(clearance.record()), None),
            "boot-1",
            facts,
        )
    };
    assert_eq!(ask(Some(&live())).unwrap(), May::Recorded);
    assert_eq!(ask(None).unwrap(), May::ClearedEarlier);
    let mut admin = server.admin();
    admin.run("DELETE FROM restarts.bootstrap_nodes");
    assert_eq!(ask(Some(&live())).unwrap(), May::Unrecorded);
    assert_eq!(
        pass(&connector, 7, "h1").unwrap().record().series,
        image(7).series
    );
    admin.run("DELETE FROM restarts.bootstrap_nodes; UPDATE restarts.cluster_series SET series = '0.9', predecessor = '0.8'");
    assert_eq!(ask(Some(&live())).unwrap_err().code.id, "SF-GATE-VERSION");
}

fn image_of(clearance: &sf_firstboot::gate::Clearance) -> sf_firstboot::gate::Image {
    sf_firstboot::gate::Image {
        image_version: clearance.record().image_version.clone(),
        ..image(7)
    }
}

#[test]
fn other_roles_wait_and_make_no_tables() {
    let server = shared();
    let connector = connector(&server.database("waiting"));
    let mut told = Vec::new();
    let failure = block_on(wait_for_bootstrap(&connector, within(3), &mut |text| {
        told.push(text.to_owned());
    }))
    .unwrap_err();
    assert_eq!(failure.code.id, "SF-BOOTSTRAP-WAITING", "{failure}");
    assert_eq!(failure.kind().exit_code(), 75);
    assert_eq!(
        told,
        ["waiting for a database-tier node to bootstrap the cluster: its tables are not there yet"]
    );
    let mut admin = server.admin();
    assert!(dump(&mut admin, "waiting").is_empty());

    // Half-way is not there yet.
    bootstrap(&connector, inputs()).unwrap();
    admin.run("DELETE FROM waiting.bootstrap_operations WHERE name = 'auth-secret-seed'");
    let failure = block_on(wait_for_bootstrap(&connector, within(3), &mut |_| {})).unwrap_err();
    assert!(
        failure
            .what
            .contains("complete so far: cluster-series, config/"),
        "{failure}"
    );

    // It ends as soon as another node is done.
    let looks = Arc::new(AtomicUsize::new(0));
    let waiter = std::thread::spawn({
        let (connector, looks) = (connector.clone(), looks.clone());
        move || {
            let mut told = |_: &str| {
                looks.fetch_add(1, Ordering::Relaxed);
            };
            block_on(wait_for_bootstrap(&connector, within(60), &mut told)).map(drop)
        }
    });
    wait_for("it waits", || looks.load(Ordering::Relaxed) > 0);
    bootstrap(&connector, inputs()).unwrap();
    waiter.join().unwrap().unwrap();
    pass(&connector, 7, "h1.example").unwrap();
}

/// A fleet waits at a server with fewer connections than it has nodes, finds it
/// full at first, and each has its look all the same; the node that bootstraps
/// comes last, and finds a connection.
#[test]
fn nodes_that_wait_leave_room_for_the_one_that_they_wait_for() {
    let server = Server::start(&["--max-connections=12"]);
    let mut admin = server.admin();
    admin.database("crowd");
    let connector = connector(&server.dsn("crowd"));
    // Others have what the administrator leaves.
    let others: Vec<_> = std::iter::from_fn(|| block_on(connector.connect()).ok()).collect();
    assert_eq!(others.len(), 11);
    let mut refusals = || -> usize {
        let count = "SHOW GLOBAL STATUS LIKE 'Connection_errors_max_connections'";
        admin.rows(count)[0][1].parse().unwrap()
    };
    let before = refusals();
    let looks = Arc::new(AtomicUsize::new(0));
    let waiters: Vec<_> = (0..24)
        .map(|_| {
            let (connector, looks) = (connector.clone(), looks.clone());
            std::thread::spawn(move || {
                block_on(async {
                    let mut told = |text: &str| {
                        if text.contains("its tables are not there yet") {
                            looks.fetch_add(1, Ordering::Relaxed);
                        }
                    };
                    let session = wait_for_bootstrap(&connector, within(120), &mut told).await?;
                    session.close().await;
                    Ok::<_, sf_firstboot::failure::Failure>(())
                })
            })
        })
        .collect();
    wait_for("a node is turned away", || refusals() > before);
    assert_eq!(looks.load(Ordering::Relaxed), 0, "the server was full");
    for session in others {
        block_on(session.close());
    }
    wait_for("every node has looked", || {
        looks.load(Ordering::Relaxed) == waiters.len()
    });
    bootstrap(&connector, inputs()).unwrap();
    for waiter in waiters {
        waiter.join().unwrap().unwrap();
    }
}

/// The same where the server has room, and the user that the fleet shares has not.
#[test]
fn nodes_that_wait_leave_room_among_the_connections_of_their_user() {
    let server = Server::start(&["--max-user-connections=3"]);
    let connector = connector(&server.database("shared"));
    let (told, telling) = std::sync::mpsc::channel();
    let waiters: Vec<_> = (0..6)
        .map(|_| {
            let (connector, told) = (connector.clone(), told.clone());
            std::thread::spawn(move || {
                block_on(async {
                    let mut tell = |text: &str| {
                        if text.contains("its tables are not there yet") {
                            told.send(()).unwrap();
                        }
                    };
                    let session = wait_for_bootstrap(&connector, within(60), &mut tell).await?;
                    session.close().await;
                    Ok::<_, sf_firstboot::failure::Failure>(())
                })
            })
        })
        .collect();
    for _ in 0..3 {
        telling.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    bootstrap(&connector, inputs()).unwrap();
    for waiter in waiters {
        waiter.join().unwrap().unwrap();
    }
}

#[test]
fn waiting_does_not_mend_a_wrong_password() {
    let server = shared();
    let connector = connector(&server.database("impatient").replace(PASSWORD, "wrong"));
    let started = Instant::now();
    let failure = block_on(wait_for_bootstrap(&connector, within(30), &mut |_| {})).unwrap_err();
    assert_eq!(failure.code.id, "SF-DB-AUTH");
    assert!(started.elapsed() < Duration::from_secs(20));
}

/// Joins, introductions and retirements, each stopped at every command while
/// another crosses it.
#[test]
fn passages_that_cross_leave_what_the_rules_allow() {
    let server = shared();
    server.database("crossing");
    let at = server.address();
    let mut ground = Ground::new("crossing", at, at, server.admin());
    let points: usize = crossing::ALL.iter().map(|each| ground.cross(each)).sum();
    println!("{} crossings at {points} points", crossing::ALL.len());
}
