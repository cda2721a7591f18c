//! Servers whose settings are unlike those of the other tests: what an
//! operator, a distribution or an `init_connect` may have put there must not
//! change what the agent writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use sf_contract::release::Schema;
use sf_contract::role::Role;
use sf_firstboot::bootstrap::{self, Plan};
use sf_firstboot::database::Connector;
use sf_firstboot::fleet::hand;
use sf_firstboot::gate::{self, Node};
use support::agent::Agent;
use support::build::Build;
use support::metadata::{self, bootstrapped, image, inputs, within};
use support::normal::{EndState, end_state};
use support::{Admin, Server, block_on, connector};

/// What a configuration file, or somebody at run time, has set.
const SETTINGS: [(&str, &str); 23] = [
    ("autocommit", "0"),
    ("completion_type", "'CHAIN'"),
    ("completion_type", "'RELEASE'"),
    ("sql_mode", "'ORACLE'"),
    (
        "sql_mode",
        "'ANSI,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES,ONLY_FULL_GROUP_BY'",
    ),
    ("sql_mode", "''"),
    ("sql_safe_updates", "1"),
    ("sql_select_limit", "1"),
    // Names in SHOW GRANTS come without quotes.
    ("sql_quote_show_create", "0"),
    ("max_join_size", "1"),
    ("max_statement_time", "0.001"),
    ("tx_isolation", "'READ-COMMITTED'"),
    ("tx_isolation", "'SERIALIZABLE'"),
    ("tx_read_only", "1"),
    ("time_zone", "'+05:30'"),
    ("wait_timeout", "1"),
    ("character_set_server", "'utf8mb3'"),
    ("innodb_force_primary_key", "1"),
    ("innodb_default_row_format", "'compact'"),
    ("foreign_key_checks", "0"),
    ("query_cache_type", "1"),
    (
        "init_connect",
        "'SET autocommit = 0, sql_mode = \"\", NAMES latin1'",
    ),
    ("init_connect", "'BEGIN'"),
];

fn author() -> hand::Author {
    hand::Author {
        user: "alice".into(),
        host: "desk".into(),
    }
}

/// In an empty database, the real agent bootstraps; the states of the gate, of a claim and of what an
/// operator does by hand follow.
fn story(server: &Server, admin: &mut Admin, name: &str) -> (EndState, Vec<Vec<String>>) {
    let dsn = server.dsn(name);
    let agent = Agent::new("db1.example", &dsn);
    let status = agent.command().spawn().unwrap().wait().unwrap();
    assert!(status.success(), "{name}: {status}: {}", agent.log());
    let state = end_state(admin, name, false);
    let connector = connector(&dsn);
    let pass = |connector: &Connector, minor: u64, fqdn: &str, role| {
        let node = Node {
            fqdn: fqdn.into(),
            role,
            instance_id: format!("disk/{fqdn}"),
        };
        let deadline = within(20);
        block_on(gate::pass(
            connector,
            &image(minor),
            &node,
            "boot",
            deadline,
            &mut |_| {},
        ))
        .map_or_else(|failure| panic!("{name}: {fqdn}: {failure}"), drop);
    };
    let hypervisors = ["h1", "h2", "h3"];
    pass(&connector, 7, "net1", Role::Network);
    for (fqdn, minor) in [7, 8]
        .into_iter()
        .flat_map(|minor| hypervisors.map(|fqdn| (fqdn, minor)))
    {
        pass(&connector, minor, fqdn, Role::Hypervisor);
    }
    rehearsed(&connector, admin, name);
    // The last one on the old series: it is retired after a transaction's COMMIT.
    pass(&connector, 8, "net1", Role::Network);
    let series = admin.rows(&format!("SELECT series FROM `{name}`.cluster_series"));
    assert_eq!(series, [["0.8"]], "{name}");
    let author = author();
    assert!(metadata::forget(&connector, "h3", &author).unwrap());
    let held = metadata::claim(&connector, "network").unwrap();
    let freed = hand::release(&connector, &held, &author, within(10));
    assert!(block_on(freed).unwrap());
    pass(&connector, 9, "net2", Role::Network);
    let record = admin.rows(&format!(
        "SELECT 'series', CAST(slot AS CHAR), series FROM `{name}`.cluster_series \
         UNION ALL SELECT fqdn, role, series FROM `{name}`.bootstrap_nodes \
         UNION ALL SELECT 'claim', role, fqdn FROM `{name}`.bootstrap_claims \
         UNION ALL SELECT 'event', action, subject FROM `{name}`.bootstrap_events ORDER BY 1, 2, 3"
    ));
    (state, record)
}

/// A passage that writes to every table of the record leaves nothing.
fn rehearsed(connector: &Connector, admin: &mut Admin, name: &str) {
    let before = metadata::dump(admin, name);
    let node = gate::Candidate::Here(Node {
        fqdn: "net1".into(),
        role: Role::Network,
        instance_id: "disk/net1".into(),
    });
    let tried = block_on(async {
        let mut session = connector.connect().await.unwrap();
        let tried = gate::rehearse(&mut session, &image(8), &node).await;
        session.close().await;
        tried
    });
    assert!(matches!(tried, Ok(gate::Rehearsed::Passes)), "{tried:?}");
    assert_eq!(metadata::dump(admin, name), before, "{name}");
}

fn for_all_sessions(build: Build) {
    let server = Server::start_build(build, &[]);
    // Its own sessions are as they were before.
    let mut admin = server.admin();
    admin.database("plain");
    let plain = story(&server, &mut admin, "plain");
    assert!(plain.1.len() > 5, "{plain:?}");
    for (index, (name, value)) in SETTINGS.into_iter().enumerate() {
        let before = admin.cell(&format!("SELECT QUOTE(@@global.{name})"));
        admin.run(&format!("SET GLOBAL {name} = {value}"));
        let database = format!("odd{index}");
        admin.database(&database);
        let found = story(&server, &mut admin, &database);
        let before = before.trim_matches('\'');
        let before = match before.parse::<f64>() {
            Ok(_) => before.to_owned(),
            Err(_) => format!("'{before}'"),
        };
        admin.run(&format!("SET GLOBAL {name} = {before}"));
        assert_eq!(found, plain, "{name} = {value}");
    }
}

#[test]
fn what_is_set_for_all_sessions_changes_nothing_on_mariadb_10_11() {
    for_all_sessions(Build::Host);
}

#[test]
fn what_is_set_for_all_sessions_changes_nothing_on_mariadb_11_8() {
    for_all_sessions(Build::Debian13);
}

#[test]
fn what_the_server_says_is_english_in_every_country() {
    let server = Server::start(&["--lc-messages=de_DE"]);
    let dsn = server.database("empty");
    let mut admin = server.admin();
    let german = admin.try_run("SELECT * FROM empty.nowhere").unwrap_err();
    assert!(german.contains("existiert nicht"), "{german}");
    let (connector, author) = (connector(&dsn), author());
    let failure = metadata::forget(&connector, "h1", &author).unwrap_err();
    assert!(failure.to_string().contains("doesn't exist"), "{failure}");
}

#[test]
fn names_in_letters_of_both_cases_are_found_where_the_server_makes_them_small() {
    let mut server = Server::start(&[]);
    let mut admin = server.admin();
    admin.database("plain");
    let plain = story(&server, &mut admin, "plain");
    admin.database("ShakenFist");
    assert_eq!(story(&server, &mut admin, "ShakenFist"), plain);
    server.restart(&["--lower-case-table-names=1"]);
    let mut admin = server.admin();
    admin.database("ShakenFistToo");
    assert_eq!(story(&server, &mut admin, "ShakenFistToo"), plain);
}

#[test]
fn one_connection_is_enough_for_everything() {
    let server = Server::start(&["--max-user-connections=1"]);
    let mut admin = server.admin();
    admin.database("plain");
    admin.run("ALTER USER `plain`@`%` WITH MAX_USER_CONNECTIONS 1");
    assert!(story(&server, &mut admin, "plain").1.len() > 5);
}

/// Prepared statements are counted over all clients of a server: one program that
/// forgets its own leaves none to anybody.
#[test]
fn nodes_wait_for_a_server_that_has_no_statement_to_spare() {
    let server = Server::start(&["--max-prepared-stmt-count=3"]);
    let mut admin = server.admin();
    admin.database("plain");
    let connector = connector(&server.dsn("plain"));
    let plan = Plan::new(inputs()).unwrap();
    let run = || {
        block_on(bootstrap::run(
            &connector,
            &Schema::Agent,
            &plan,
            &metadata::author("db1.example"),
            within(2),
            &mut |_| {},
        ))
    };
    let failures = run().unwrap_err();
    assert_eq!(failures[0].code.id, "SF-DB-BUSY", "{}", failures[0]);
    assert!(failures[0].kind().retried());
    let cause = &failures[0].causes[0];
    assert!(cause.contains("max_prepared_stmt_count"), "{cause}");
    admin.run("SET GLOBAL max_prepared_stmt_count = 100");
    run().unwrap();
}

/// Who waits while a backup holds the tables leaves no statement behind that is
/// executed when nobody expects it any more.
#[test]
fn a_statement_that_waited_in_vain_is_not_executed_later() {
    let server = Server::start(&[]);
    let connector = bootstrapped(&server.database("held"));
    let mut admin = server.admin();
    admin.run("FLUSH TABLES WITH READ LOCK");
    let failure = block_on(gate::pass(
        &connector,
        &image(7),
        &metadata::node("h1"),
        "boot",
        within(1),
        &mut |_| {},
    ))
    .unwrap_err();
    // In the same moment: the server ends a statement whose client is gone, too,
    // but looks only now and then.
    admin.run("UNLOCK TABLES");
    assert_eq!(failure.code.id, "SF-GATE-CONTENDED", "{failure}");
    let statements = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'held'";
    support::wait_for("its connection ends", || admin.cell(statements) == "0");
    assert_eq!(admin.cell("SELECT COUNT(*) FROM held.bootstrap_nodes"), "0");
}

/// Read-only is for whoever has no `READ_ONLY ADMIN`; the desk's user may have it.
#[test]
fn nothing_is_written_to_a_replica_even_by_who_may() {
    let server = Server::start(&[]);
    let connector = bootstrapped(&server.database("replica"));
    metadata::pass(&connector, 7, "h1").unwrap();
    let seen = metadata::seen(&connector, "h1");
    let mut admin = server.admin();
    admin.run("GRANT ALL PRIVILEGES ON *.* TO `replica`@`%`; SET GLOBAL read_only = 1");
    let before = metadata::dump(&mut admin, "replica");
    let who = author();
    let forgotten = block_on(hand::forget(&connector, &seen, &who, within(1)));
    let passed = block_on(gate::pass(
        &connector,
        &image(8),
        &metadata::node("h2"),
        "boot",
        within(1),
        &mut |_| {},
    ));
    for failure in [forgotten.unwrap_err(), passed.unwrap_err()] {
        assert_eq!(failure.code.id, "SF-DB-READ-ONLY", "{failure}");
    }
    assert_eq!(metadata::dump(&mut admin, "replica"), before);
    admin.run("SET GLOBAL read_only = 0");
    assert!(block_on(hand::forget(&connector, &seen, &who, within(5))).unwrap());
}
