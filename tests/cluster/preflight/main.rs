//! Every bad database has its own finding, against real servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod login;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use sf_contract::release::Schema;
use sf_contract::role::Role;
use sf_firstboot::database::preflight::{self, Need};
use sf_firstboot::database::upkeep;
use sf_firstboot::failure::Failure;
use support::metadata::{bootstrapped, within};
use support::{PASSWORD, Server, block_on, connector, dsn, shared, wait_for};

fn findings(dsn: &str, role: Role) -> Vec<Failure> {
    block_on(async {
        let mut session = connector(dsn).connect().await.unwrap();
        let need = Need {
            role,
            bootstraps: role.bootstraps(),
            schema: &Schema::Agent,
            schema_versions: &std::collections::BTreeMap::new(),
        };
        let found = preflight::run(&mut session, &need).await.unwrap().findings;
        session.close().await;
        found
    })
}

fn codes(findings: &[Failure]) -> Vec<&'static str> {
    findings.iter().map(|failure| failure.code.id).collect()
}

/// Connects, expects a failure, and checks what every failure has to hold.
fn refused(dsn: &str) -> Failure {
    let failure = block_on(connector(dsn).connect()).unwrap_err();
    let all = format!("{failure} {failure:?} {}", failure.remedy_text());
    assert!(!all.contains(PASSWORD), "{all}");
    assert!(!failure.remedy_text().is_empty());
    failure
}

#[test]
fn a_good_database_has_no_findings_in_any_role() {
    let server = shared();
    let dsn = server.database("good");
    for role in Role::ALL {
        assert_eq!(codes(&findings(&dsn, role)), [""; 0], "{role}");
    }
    bootstrapped(&dsn);
    for role in Role::ALL {
        assert_eq!(codes(&findings(&dsn, role)), [""; 0], "{role}");
    }
}

#[test]
fn hosts_are_tried_in_turn_and_every_failure_is_kept() {
    let server = shared();
    let good = server.database("turns");
    let (down, port) = (support::free_port(), server.port);
    let both = good.replace(
        &format!("127.0.0.1:{port}"),
        &format!("127.0.0.1:{down},127.0.0.1:{port}"),
    );
    let session = block_on(connector(&both).connect()).unwrap();
    assert_eq!(session.server(), format!("127.0.0.1:{port}"));
    block_on(session.close());

    let failure = refused(&both.replace(PASSWORD, "hunter2"));
    assert_eq!(
        failure.code.id, "SF-DB-AUTH",
        "what the operator must mend leads"
    );
    let tried = failure.causes.last().unwrap();
    assert!(
        tried.contains("SF-DB-REFUSED") && tried.contains(&down.to_string()),
        "{tried}"
    );
}

/// They refuse the first statement, since they lack variables that `MariaDB` has.
#[test]
fn servers_of_another_kind_or_age_are_named_for_what_they_are() {
    for (version, code) in [
        ("8.4.3", "SF-DB-NOT-MARIADB"),
        ("10.1.48-MariaDB", "SF-DB-TOO-OLD"),
    ] {
        let address = support::mysql::start(version);
        let failure = refused(&support::dsn_at("sf", address));
        assert_eq!(failure.code.id, code, "{failure}");
        assert_eq!(failure.kind().exit_code(), 78);
        assert!(failure.what.contains(version), "{failure}");
    }
}

#[test]
fn character_sets_and_engines() {
    let server = Server::start(&["--default-storage-engine=MyISAM"]);
    let dsn = server.database("latin");
    server
        .admin()
        .run("ALTER DATABASE latin CHARACTER SET latin1");
    let found = findings(&dsn, Role::DatabaseTier);
    // Everything that is wrong comes at once.
    assert_eq!(codes(&found), ["SF-DB-ENGINE", "SF-DB-CHARSET"]);
    for failure in &found {
        assert_eq!(failure.kind().exit_code(), 78);
        let remedy = failure.remedy_text();
        let statement = &remedy[remedy
            .find("ALTER DATABASE")
            .or(remedy.find("SET GLOBAL"))
            .unwrap()..];
        server.admin().run(statement);
    }
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
    server
        .admin()
        .run("SET GLOBAL enforce_storage_engine = 'MyISAM'");
    let found = findings(&dsn, Role::DatabaseTier);
    assert_eq!(codes(&found), ["SF-DB-ENGINE"]);
    assert!(found[0].what.contains("enforced"), "{}", found[0]);
}

#[test]
fn read_only_servers_are_found_and_writable_ones_preferred() {
    let replica = Server::start(&["--read-only"]);
    // Root may write in spite of it, so the database can be made.
    let dsn = replica.database("ro");
    let found = findings(&dsn, Role::DatabaseTier);
    assert_eq!(codes(&found), ["SF-DB-READ-ONLY"]);
    assert_eq!(found[0].kind().exit_code(), 75);

    let primary = shared();
    primary.database("ro");
    let both = dsn.replace(
        &format!("127.0.0.1:{}", replica.port),
        &format!("127.0.0.1:{},127.0.0.1:{}", replica.port, primary.port),
    );
    let session = block_on(connector(&both).connect()).unwrap();
    assert_eq!(session.server(), format!("127.0.0.1:{}", primary.port));
    block_on(session.close());
}

#[test]
fn other_servers_and_old_ones() {
    for (version, expected) in [
        ("8.0.36", "SF-DB-NOT-MARIADB"),
        ("5.5.5-10.6.0-MariaDB", "SF-DB-TOO-OLD"),
        ("10.10.7-MariaDB-log", "SF-DB-TOO-OLD"),
    ] {
        let server = Server::start(&[&format!("--version={version}")]);
        let found = findings(&server.database("old"), Role::Hypervisor);
        assert_eq!(codes(&found), [expected], "{version}");
        assert!(found[0].what.contains(version));
        assert_eq!(found[0].kind().exit_code(), 78);
    }
}

#[test]
fn what_is_no_database_server_at_all() {
    // Each says its piece to whoever connects, and keeps the connection open.
    let serve = |bytes: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for mut client in listener.incoming().flatten() {
                let _ = client.write_all(bytes);
                open.push(client);
            }
        });
        port
    };
    let within = |seconds, port: u16| {
        let connector = connector(&dsn("sf", port)).connect_timeout(Duration::from_secs(seconds));
        block_on(connector.connect()).unwrap_err()
    };
    let at = |port| within(5, port);
    let failure = at(serve(b"SSH-2.0-OpenSSH_9.2p1\r\n"));
    assert_eq!(failure.code.id, "SF-DB-NOT-MARIADB", "{failure}");
    assert!(
        failure.what.contains("it says \"SSH-2.0-OpenSSH_9.2p1\""),
        "{failure}"
    );
    // A server that hangs says nothing either: that may pass.
    let failure = within(1, serve(b""));
    assert_eq!(failure.code.id, "SF-DB-TIMEOUT", "{failure}");
    assert!(failure.what.contains("says nothing"), "{failure}");
    // Nor does another program that waits to be spoken to.
    assert!(
        failure.remedy_text().contains("another program"),
        "{failure}"
    );
    // A full server says so before the login.
    let failure = at(serve(b"\x17\0\0\0\xff\x10\x04Too many connections"));
    assert_eq!(failure.code.id, "SF-DB-BUSY", "{failure}");
}

#[test]
fn a_full_server_is_transient() {
    let server = Server::start(&["--max-connections=10"]);
    let dsn = server.database("full");
    let held: Vec<_> = std::iter::from_fn(|| block_on(connector(&dsn).connect()).ok())
        .take(20)
        .collect();
    let failure = refused(&dsn);
    assert_eq!(failure.code.id, "SF-DB-BUSY", "{failure}");
    assert_eq!(failure.kind().exit_code(), 75);
    drop(held);
}

#[test]
fn tables_of_another_shape_are_refused() {
    let server = shared();
    let dsn = server.database("shape");
    server
        .admin()
        .run("CREATE TABLE shape.cluster_config (id int NOT NULL)");
    let found = findings(&dsn, Role::DatabaseTier);
    assert_eq!(codes(&found), ["SF-DB-SCHEMA"]);
    assert!(
        found[0].what.contains("cluster_config.key_name is missing"),
        "{}",
        found[0].what
    );
}

#[test]
fn tables_that_roll_nothing_back_are_refused() {
    let server = shared();
    let dsn = server.database("kept");
    bootstrapped(&dsn);
    let mut admin = server.admin();
    admin.run(
        "CREATE TABLE kept.somebody_elses (id int) ENGINE = MyISAM; \
         ALTER TABLE kept.cluster_config ENGINE = MyISAM",
    );
    for role in [Role::DatabaseTier, Role::Hypervisor] {
        let found = findings(&dsn, role);
        assert_eq!(codes(&found), ["SF-DB-ENGINE"]);
        assert!(found[0].what.ends_with(": cluster_config (MyISAM)"));
    }
    let found = findings(&dsn, Role::DatabaseTier);
    let remedy = found[0].remedy_text();
    admin.run(&format!(
        "USE kept; {}",
        &remedy[remedy.find("ALTER").unwrap()..]
    ));
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
}

#[test]
fn tables_whose_keys_are_lost_are_refused() {
    let server = shared();
    let dsn = server.database("keyless");
    bootstrapped(&dsn);
    let mut admin = server.admin();
    admin.run(
        "USE keyless; \
         ALTER TABLE bootstrap_nodes DROP FOREIGN KEY bootstrap_nodes_run_a_recorded_series; \
         ALTER TABLE cluster_series DROP PRIMARY KEY, DROP KEY cluster_series_series, \
         DROP CONSTRAINT cluster_series_two_slots; \
         ALTER TABLE bootstrap_claims DROP PRIMARY KEY",
    );
    let found = findings(&dsn, Role::DatabaseTier);
    assert_eq!(codes(&found), ["SF-DB-SCHEMA"]);
    for lost in [
        "cluster_series has no PRIMARY",
        "cluster_series has no cluster_series_series",
        "cluster_series has no cluster_series_two_slots",
        "bootstrap_nodes has no bootstrap_nodes_run_a_recorded_series",
        "bootstrap_claims has no PRIMARY",
    ] {
        assert!(found[0].what.contains(lost), "{lost}: {}", found[0]);
    }
    let remedy = found[0].remedy_text();
    admin.run(&remedy[remedy.find("ALTER").unwrap()..]);
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
    // A user who may not see them says nothing about them.
    admin.run("REVOKE ALL ON keyless.* FROM keyless; GRANT SELECT ON keyless.* TO keyless");
    let found = findings(&dsn, Role::DatabaseTier);
    assert_eq!(codes(&found), ["SF-DB-GRANTS"]);
}

#[test]
fn a_network_without_a_way_is_told_from_a_server_that_is_down() {
    // A multicast address: the kernel knows no way there for TCP, network or not.
    let failure = refused("mysql://sf:x@224.0.0.1:3306/sf");
    assert_eq!(failure.code.id, "SF-DB-UNREACHABLE", "{failure}");
    assert_eq!(failure.kind().exit_code(), 75);
    assert_eq!(
        failure.next_command.as_deref(),
        Some("ip route get 224.0.0.1")
    );
    assert!(failure.what.contains("224.0.0.1:3306"), "{failure}");
}

#[test]
fn a_server_that_fills_up_is_warned_about() {
    let server = Server::start(&["--max-connections=15"]);
    let dsn = server.database("filling");
    let warnings = block_on(async {
        let mut session = connector(&dsn).connect().await.unwrap();
        let standing = upkeep::look(&mut session).await.unwrap();
        session.close().await;
        standing.warnings()
    });
    assert_eq!(codes(&warnings), ["SF-DB-CONNECTIONS"]);
    let remedy = warnings[0].remedy_text();
    let statement = &remedy[remedy.find("SET GLOBAL").unwrap()..remedy.find(';').unwrap()];
    server.admin().run(statement);
}

#[test]
fn the_servers_clock_is_compared_with_ours() {
    // A server that takes every session's time from a variable can be moved.
    for (options, least, most) in [
        (&[][..], -2.0, 2.0),
        (
            &[
                "--sysdate-is-now",
                "--init-connect=SET timestamp=1700000000",
            ],
            -1e9,
            -6e7,
        ),
        (
            &[
                "--sysdate-is-now",
                "--init-connect=SET timestamp=2140000000",
            ],
            3e8,
            1e9,
        ),
    ] {
        let server = Server::start(options);
        let dsn = server.database("clock");
        let ahead = block_on(async {
            let session = connector(&dsn).connect().await.unwrap();
            let ahead = session.clock_ahead();
            session.close().await;
            ahead
        });
        assert!((least..=most).contains(&ahead), "{ahead}");
    }
}

/// A cluster of one real Galera node.
#[test]
fn a_galera_node_is_asked_for_its_state() {
    let provider = "/usr/lib/galera/libgalera_smm.so";
    assert!(
        std::path::Path::new(provider).exists(),
        "{provider} is missing: install galera-4"
    );
    let port = support::free_port();
    let server = Server::start(&[
        "--wsrep-on=ON",
        "--wsrep-new-cluster",
        "--wsrep-cluster-address=gcomm://",
        "--wsrep-cluster-name=check",
        "--wsrep-node-address=127.0.0.1",
        &format!("--wsrep-provider={provider}"),
        &format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1"
        ),
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]);
    // It accepts connections before it accepts statements.
    wait_for("the Galera node is ready", || {
        let ready = "SHOW GLOBAL STATUS LIKE 'wsrep_ready'";
        server.admin().rows(ready)[0][1] == "ON"
    });
    let dsn = server.database("galera");
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
    let warnings = || {
        block_on(async {
            let mut session = connector(&dsn).connect().await.unwrap();
            let standing = upkeep::look(&mut session).await.unwrap();
            session.close().await;
            standing.warnings()
        })
    };
    assert_eq!(codes(&warnings()), [""; 0]);
    server.admin().run("SET GLOBAL wsrep_desync = ON");
    // Lent, it still takes statements.
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
    let found = warnings();
    assert_eq!(codes(&found), ["SF-DB-DONOR"]);
    assert!(
        found[0].what.contains("Donor/Desynced"),
        "{}",
        found[0].what
    );
}
