//! The five kinds of operation against a real server: what they leave, that
//! they leave it once, what they adopt, and what they refuse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use sf_contract::release::Schema;
use sf_contract::secret::Secret;
use sf_firstboot::bootstrap::{Inputs, Outcome, Plan, Rehearsal, Tried, rehearse};
use sf_firstboot::database::{Connector, read_cluster};
use support::metadata::{KEY, author, bootstrap, bootstrapped, definitions, dump, inputs, within};
use support::{Admin, PASSWORD, Server, block_on, connector, shared, wait_for};

const OPERATIONS: [&str; 6] = [
    "cluster-series",
    "namespace/system",
    "key/system/bootstrap",
    "config/DNS_SERVER",
    "config/MAX_HYPERVISOR_MTU",
    "auth-secret-seed",
];

fn outcomes(connector: &Connector, inputs: Inputs) -> Vec<Outcome> {
    let report = bootstrap(connector, inputs).unwrap();
    report.operations.iter().map(|done| done.outcome).collect()
}

/// Bootstraps, expects refusals, and returns their codes; nothing was written.
fn refusals(admin: &mut Admin, name: &str, connector: &Connector, inputs: Inputs) -> Vec<String> {
    let before = dump(admin, name);
    let failures = bootstrap(connector, inputs).unwrap_err();
    assert_eq!(dump(admin, name), before, "a refusal wrote something");
    failures
        .iter()
        .map(|failure| {
            let text = format!("{failure} {}", failure.remedy_text());
            assert!(!text.contains(KEY) && !text.contains(PASSWORD), "{text}");
            assert_eq!(failure.kind().exit_code(), 77, "{text}");
            format!("{}: {}", failure.code.id, failure.what)
        })
        .collect()
}

#[test]
fn a_fresh_database_gets_every_row_in_upstreams_formats() {
    let server = shared();
    let connector = connector(&server.database("fresh"));
    let mut admin = server.admin();
    let report = bootstrap(&connector, inputs()).unwrap();
    let names: Vec<&str> = report.operations.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, OPERATIONS);
    assert!(
        report
            .operations
            .iter()
            .all(|d| d.outcome == Outcome::Created)
    );
    assert_eq!(report.tables.len(), 11);

    let tables = dump(&mut admin, "fresh");
    assert_eq!(tables["bootstrap_operations"].len(), OPERATIONS.len());
    assert_eq!(tables["bootstrap_nodes"].len(), 0);
    assert_eq!(
        tables["cluster_series"][0][..4],
        ["0", "0.7", "0.6", "0.7.2"]
    );
    assert_eq!(tables["namespaces"], [["system", "7"]]);
    assert_eq!(
        tables["namespace_attributes"],
        [["system", "{\"nonced_keys\": {}}", "[\"system\"]"]]
    );
    let key = &tables["namespace_keys"][0];
    assert_eq!(key[1..], ["system", "bootstrap", "1"]);
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    assert!(key[0].len() == 32 && is_hex(&key[0]), "{key:?}");
    let attributes = &tables["namespace_key_attributes"][0];
    assert_eq!(attributes[0], key[0]);
    let hash = base64::engine::general_purpose::STANDARD
        .decode(&attributes[1])
        .unwrap();
    let hash = String::from_utf8(hash).unwrap();
    assert!(hash.starts_with("$2b$12$"), "{hash}");
    assert!(attributes[2].len() == 16 && attributes[2].bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(attributes[3..], ["NULL", "NULL", "NULL"]);
    let states = &tables["object_states"];
    assert_eq!(states[0][..3], ["NAMESPACE", "system", "created"]);
    assert_eq!(states[1][0], "NAMESPACE_KEY");
    assert_eq!(states[1][1].replace('-', ""), key[0]);
    assert_eq!(states[1][1].len(), 36);
    let config = &tables["cluster_config"];
    assert_eq!(config[1][..2], ["DNS_SERVER", "\"9.9.9.9\""]);
    assert_eq!(config[2][..2], ["MAX_HYPERVISOR_MTU", "8950"]);
    let seed = config[0][1].trim_matches('"');
    assert!(config[0][0] == "AUTH_SECRET_SEED" && seed.len() == 64 && is_hex(seed));

    // Neither the key nor the seed, nor anything that is quickly tried out, is
    // in a record.
    let records = format!("{:?}", tables["bootstrap_operations"]);
    assert!(!records.contains(KEY) && !records.contains(seed) && !records.contains(&hash));

    let state = block_on(async {
        let mut session = connector.connect().await.unwrap();
        read_cluster(&mut session).await.unwrap()
    });
    assert_eq!(state.auth_secret_seed.as_ref().unwrap().expose(), seed);
    assert!(!format!("{state:?}").contains(seed));
    assert_eq!(state.operations.len(), OPERATIONS.len());
    assert_eq!(
        state.config,
        BTreeMap::from([
            ("DNS_SERVER".to_owned(), "9.9.9.9".into()),
            ("MAX_HYPERVISOR_MTU".to_owned(), 8950.into())
        ])
    );
}

/// The binary log has an entry for everything that changed something; the
/// general log shows that nothing else was even asked for.
#[test]
fn a_second_run_writes_nothing_at_all() {
    let server = Server::start(&[
        "--log-bin=binlog",
        "--server-id=1",
        // Also the one that InnoDB refuses under READ COMMITTED.
        "--binlog-format=STATEMENT",
        "--general-log-file=general.log",
    ]);
    let connector = connector(&server.database("again"));
    let mut admin = server.admin();
    bootstrap(&connector, inputs()).unwrap();
    let rows = dump(&mut admin, "again");
    let position = |admin: &mut Admin| admin.rows("SHOW MASTER STATUS")[0][..2].join(" ");
    let before = position(&mut admin);
    admin.run("SET GLOBAL general_log = 1");
    let report = bootstrap(&connector, inputs()).unwrap();
    admin.run("SET GLOBAL general_log = 0");
    assert!(!report.wrote(), "{report:?}");
    assert_eq!(position(&mut admin), before);
    assert_eq!(dump(&mut admin, "again"), rows);
    let log = std::fs::read_to_string(server.data().join("general.log")).unwrap();
    let mut reads = 0;
    for line in log.lines() {
        let Some((_, statement)) = [" Query\t", " Prepare\t", " Execute\t"]
            .iter()
            .find_map(|kind| line.split_once(kind))
        else {
            continue;
        };
        let word = statement.split_whitespace().next().unwrap();
        assert!(matches!(word, "SELECT" | "SET"), "{line}");
        reads += 1;
    }
    assert!(reads > 20, "the log was not read: {log}");
    // And the binary log does see writes.
    admin.run("INSERT INTO again.cluster_config VALUES ('X', '1', 0)");
    assert_ne!(position(&mut admin), before);
}

#[test]
fn artefacts_of_another_deployer_are_recorded_and_not_changed() {
    let server = shared();
    let connector = connector(&server.database("adopt"));
    let mut admin = server.admin();
    bootstrap(&connector, inputs()).unwrap();
    // What another deployer leaves: everything but the agent's own tables.
    admin.run(
        "DROP TABLE adopt.bootstrap_nodes; DROP TABLE adopt.cluster_series; \
         DROP TABLE adopt.bootstrap_operations; DROP TABLE adopt.bootstrap_claims",
    );
    let before = dump(&mut admin, "adopt");
    assert_eq!(
        outcomes(&connector, inputs()),
        [
            Outcome::Created, // the series: that table is the agent's
            Outcome::Adopted,
            Outcome::Adopted,
            Outcome::Adopted,
            Outcome::Adopted,
            Outcome::Adopted,
        ]
    );
    let after = dump(&mut admin, "adopt");
    for (table, rows) in &before {
        assert_eq!(rows, &after[table], "{table}");
    }
    let fingerprints = admin
        .rows("SELECT name, fingerprint FROM adopt.bootstrap_operations WHERE outcome = 'adopted'");
    let of = |name: &str| &fingerprints.iter().find(|row| row[0] == name).unwrap()[1];
    // A seed that the agent did not make may be guessable.
    assert_eq!(of("auth-secret-seed"), "withheld");
    assert!(of("key/system/bootstrap").starts_with("bcrypt-sha256:"));
    assert!(!bootstrap(&connector, inputs()).unwrap().wrote());
}

#[test]
fn contradictions_are_refused_all_together_and_name_both_sides() {
    let server = shared();
    let connector = connector(&server.database("contra"));
    let mut admin = server.admin();
    bootstrap(&connector, inputs()).unwrap();
    admin.run("DELETE FROM contra.bootstrap_operations WHERE name <> 'cluster-series'");
    let mut other = inputs();
    other.auth_secret_seed = Some(Secret::new("0therseed"));
    other.system_key.as_mut().unwrap().secret = Secret::new("another");
    other.config.insert("DNS_SERVER".into(), "1.1.1.1".into());
    let sources: Vec<_> = bootstrap(&connector, other.clone())
        .unwrap_err()
        .into_iter()
        .map(|failure| failure.source.unwrap())
        .collect();
    assert_eq!(
        sources,
        [
            "metadata field secrets.system_key",
            "metadata field cluster.config.DNS_SERVER",
            "metadata field secrets.auth_secret_seed"
        ]
    );
    let found = refusals(&mut admin, "contra", &connector, other);
    let at = format!("127.0.0.1:{}", server.port);
    assert_eq!(
        found,
        [
            format!(
                "SF-BOOTSTRAP-CONTRADICTION: secrets.system_key is not the secret of key bootstrap of namespace system in the database at {at}, which another deployer made"
            ),
            format!(
                "SF-BOOTSTRAP-CONTRADICTION: cluster.config.DNS_SERVER is \"1.1.1.1\" in the metadata and \"9.9.9.9\" in the database at {at}, which another deployer wrote"
            ),
            format!(
                "SF-BOOTSTRAP-CONTRADICTION: secrets.auth_secret_seed differs from the AUTH_SECRET_SEED in the database at {at}, which another deployer wrote"
            ),
        ]
    );
}

#[test]
fn what_people_changed_since_stays_and_is_noted() {
    let server = shared();
    let connector = bootstrapped(&server.database("since"));
    let mut admin = server.admin();
    let other = base64::engine::general_purpose::STANDARD
        .encode(bcrypt::hash("rotated by people", 4).unwrap());
    admin.run(&format!(
        "UPDATE since.cluster_config SET value_json = '\"1.1.1.1\"' WHERE key_name = 'DNS_SERVER'; \
         UPDATE since.namespace_key_attributes SET `key` = '{other}'"
    ));
    let before = dump(&mut admin, "since");
    let report = bootstrap(&connector, inputs()).unwrap();
    let notes: Vec<String> = report
        .operations
        .iter()
        .filter_map(|d| d.note.clone())
        .collect();
    assert_eq!(
        notes,
        [
            "key bootstrap was changed since",
            "DNS_SERVER was changed since, to \"1.1.1.1\""
        ]
    );
    assert!(!report.wrote());
    assert_eq!(dump(&mut admin, "since"), before);
}

#[test]
fn a_lost_seed_is_never_replaced() {
    let server = shared();
    let connector = bootstrapped(&server.database("lost"));
    let mut admin = server.admin();
    admin.run("DELETE FROM lost.cluster_config; DELETE FROM lost.namespaces");
    let found = refusals(&mut admin, "lost", &connector, inputs());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("SF-BOOTSTRAP-DAMAGED: the namespace system is gone"));
    assert!(
        found[1].starts_with("SF-BOOTSTRAP-DAMAGED: AUTH_SECRET_SEED in cluster_config is gone")
    );
    assert!(
        found[1].contains("created by db1.example at 20"),
        "{}",
        found[1]
    );
}

#[test]
fn an_image_that_may_not_run_here_finishes_nobodys_bootstrap() {
    let server = shared();
    let connector = bootstrapped(&server.database("toonew"));
    let mut admin = server.admin();
    admin.run("DELETE FROM toonew.bootstrap_operations WHERE name LIKE 'config/%'");
    let mut newer = inputs();
    newer.series = "0.9".parse().unwrap();
    newer.predecessor = Some("0.8".parse().unwrap());
    let found = refusals(&mut admin, "toonew", &connector, newer);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("SF-GATE-VERSION: "), "{found:?}");
}

#[test]
fn a_rehearsal_says_what_would_happen_and_leaves_nothing() {
    let server = shared();
    let connector = connector(&server.database("rehearse"));
    let mut admin = server.admin();
    let plan = Plan::new(inputs()).unwrap();
    let rehearsal = || {
        block_on(async {
            let mut session = connector.connect().await.unwrap();
            let author = author("desk");
            let rehearsal = rehearse(&mut session, &Schema::Agent, &plan, &author, None).await;
            session.close().await;
            rehearsal
        })
    };
    let Rehearsal { report, tried, .. } = rehearsal().unwrap();
    assert_eq!((report.tables.len(), tried), (11, Tried::NoTables));
    assert!(dump(&mut admin, "rehearse").is_empty());

    bootstrap(&connector, inputs()).unwrap();
    let Rehearsal { report, tried, .. } = rehearsal().unwrap();
    assert!(!report.wrote() && tried == Tried::Nothing);
    for table in [
        "bootstrap_operations",
        "cluster_config",
        "namespaces",
        "namespace_keys",
    ] {
        admin.run(&format!("DELETE FROM rehearse.{table}"));
    }
    admin.run("DELETE FROM rehearse.cluster_series");
    let before = dump(&mut admin, "rehearse");
    let Rehearsal { report, tried, .. } = rehearsal().unwrap();
    assert_eq!(tried, Tried::RolledBack);
    assert!(
        report
            .operations
            .iter()
            .all(|d| d.outcome == Outcome::Created),
        "{report:?}"
    );
    assert_eq!(dump(&mut admin, "rehearse"), before);

    // It finds what only the statements themselves find.
    admin.run(
        "ALTER TABLE rehearse.cluster_config ADD CONSTRAINT odd CHECK (key_name <> 'DNS_SERVER')",
    );
    let failures = rehearsal().unwrap_err();
    assert_eq!(failures[0].code.id, "SF-DB-SCHEMA", "{failures:?}");
    assert_eq!(dump(&mut admin, "rehearse"), before);
}

#[test]
fn releases_that_make_their_own_tables_are_waited_for() {
    let server = shared();
    let connector = connector(&server.database("released"));
    let mut admin = server.admin();
    let schema = Schema::Command {
        command: vec!["sf-ctl".into(), "ensure-mariadb-schema".into()],
        expected: BTreeMap::new(),
    };
    let run = || {
        block_on(sf_firstboot::bootstrap::run(
            &connector,
            &schema,
            &Plan::new(inputs()).unwrap(),
            &author("db1.example"),
            within(10),
            &mut |_| {},
        ))
    };
    let failures = run().unwrap_err();
    assert_eq!(failures[0].code.id, "SF-DB-SCHEMA-MISSING", "{failures:?}");
    assert!(
        failures[0]
            .remedy_text()
            .contains("sf-ctl ensure-mariadb-schema")
    );
    // The agent's own tables are there for the claim under which the command
    // runs; the cluster's are not.
    assert_eq!(dump(&mut admin, "released").len(), 5);
    // Upstream's enum instead of the agent's text.
    let other = connector_with_tables(&server, "released_model");
    drop(other);
    for definition in definitions(&mut admin, "released_model") {
        if !definition.contains("`bootstrap_") && !definition.contains("`cluster_series`") {
            let definition = definition
                .replace("CREATE TABLE ", "CREATE TABLE released.")
                .replace(
                    "`object_type` varchar(64)",
                    "`object_type` enum('ARTIFACT','NAMESPACE','NAMESPACE_KEY','NODE')",
                );
            admin.run(&definition);
        }
    }
    let report = run().unwrap();
    assert!(
        report
            .operations
            .iter()
            .all(|d| d.outcome == Outcome::Created),
        "{report:?}"
    );
}

fn connector_with_tables(server: &Server, name: &str) -> Connector {
    let connector = bootstrapped(&server.database(name));
    server
        .admin()
        .run(&format!("DELETE FROM {name}.bootstrap_operations"));
    connector
}

/// A transaction of somebody else holds the row that the operation needs: the
/// agent waits its turn, and gives up at its deadline without having written.
#[test]
fn held_locks_are_waited_for_and_named_at_the_deadline() {
    let server = shared();
    let connector = bootstrapped(&server.database("locked"));
    let mut admin = server.admin();
    admin.run(
        "DELETE FROM locked.bootstrap_operations WHERE name LIKE 'config/D%'; \
               DELETE FROM locked.cluster_config WHERE key_name LIKE 'D%'",
    );
    let mut holder = server.admin();
    holder.run(
        "BEGIN; INSERT INTO locked.bootstrap_operations VALUES \
                ('config/DNS_SERVER', 'created', '', 0, 'somebody', '', '')",
    );
    let failures = block_on(sf_firstboot::bootstrap::run(
        &connector,
        &Schema::Agent,
        &Plan::new(inputs()).unwrap(),
        &author("db1.example"),
        within(7),
        &mut |_| {},
    ))
    .unwrap_err();
    assert_eq!(
        failures[0].code.id, "SF-BOOTSTRAP-CONTENDED",
        "{failures:?}"
    );
    assert_eq!(failures[0].kind().exit_code(), 75);
    assert!(failures[0].causes[0].starts_with("1205 "), "{failures:?}");

    // Once it is let go, the same call goes through.
    let waiter = std::thread::spawn(move || bootstrap(&connector, inputs()));
    wait_for("it stands before the row", || {
        admin.cell(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'locked' \
             AND info LIKE 'INSERT INTO bootstrap_operations%' AND id <> CONNECTION_ID()",
        ) != "0"
    });
    holder.run("ROLLBACK");
    let report = waiter.join().unwrap().unwrap();
    assert_eq!(report.operations[3].outcome, Outcome::Created);
    assert_eq!(
        admin.cell(
            "SELECT completed_by FROM locked.bootstrap_operations WHERE name = 'config/DNS_SERVER'"
        ),
        "db1.example"
    );
}

/// The server goes away in the middle and comes back: the same run goes on.
#[test]
fn a_restart_of_the_server_is_survived() {
    let mut server = Server::start(&[]);
    let connector = connector(&server.database("restart"));
    server.stop();
    let told = Arc::new(AtomicBool::new(false));
    let run = std::thread::spawn({
        let told = told.clone();
        move || {
            block_on(sf_firstboot::bootstrap::run(
                &connector,
                &Schema::Agent,
                &Plan::new(inputs()).unwrap(),
                &author("db1.example"),
                within(60),
                &mut |_| told.store(true, Ordering::Relaxed),
            ))
        }
    });
    wait_for("it waits", || told.load(Ordering::Relaxed));
    server.restart(&[]);
    let report = run.join().unwrap().unwrap();
    assert_eq!(report.operations.len(), OPERATIONS.len());
    // Read-only for a while, then not.
    let mut admin = server.admin();
    admin.run(
        "DELETE FROM restart.bootstrap_operations WHERE name LIKE 'config/%'; \
               SET GLOBAL read_only = 1",
    );
    let connector = support::connector(&server.dsn("restart"));
    let run = std::thread::spawn(move || bootstrap(&connector, inputs()));
    std::thread::sleep(Duration::from_millis(700));
    assert!(!run.is_finished(), "a read-only server is waited for");
    admin.run("SET GLOBAL read_only = 0");
    run.join().unwrap().unwrap();
}
