//! Clusters that somebody else began: develop's own schema, another deployer's
//! rows, and what contradicts the metadata. What is left is read back by readers
//! that have nothing of the agent's code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use sf_contract::release::Schema;
use sf_contract::secret::Secret;
use sf_firstboot::bootstrap::{Inputs, Outcome, Plan, Report};
use sf_firstboot::database::Connector;
use sf_firstboot::failure::Failure;
use support::build::Build;
use support::metadata::{KEY, author, definitions, dump, inputs, within};
use support::readers::{Read, read};
use support::{Admin, PASSWORD, Server, block_on, connector, shared};

/// What `ensure-mariadb-schema` makes.
const DEVELOP: &str = include_str!("../fixtures/develop-schema.sql");

/// The seed that the other deployer chose.
const SEED: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Bootstraps a release whose tables its own command makes.
fn bootstrap(connector: &Connector, inputs: Inputs) -> Result<Report, Vec<Failure>> {
    let schema = Schema::Command {
        command: vec!["sf-ctl".into(), "ensure-mariadb-schema".into()],
        expected: BTreeMap::new(),
    };
    block_on(sf_firstboot::bootstrap::run(
        connector,
        &schema,
        &Plan::new(inputs)?,
        &author("db1.example"),
        within(20),
        &mut |_| {},
    ))
}

fn develop(server: &Server, name: &str) -> Connector {
    let connector = connector(&server.database(name));
    server.admin().run(&format!("USE `{name}`; {DEVELOP}"));
    connector
}

/// The rows that another deployer leaves: the seed and a setting, the namespace
/// and a key, by upstream's formats.
fn deployed(admin: &mut Admin, name: &str) {
    static HASH: LazyLock<String> = LazyLock::new(|| {
        let hash = bcrypt::hash(KEY, 12).unwrap();
        base64::engine::general_purpose::STANDARD.encode(hash)
    });
    let hash = &*HASH;
    admin.run(&format!(
        "USE `{name}`; SET @now = UNIX_TIMESTAMP(SYSDATE(6)); \
         INSERT INTO cluster_config VALUES ('AUTH_SECRET_SEED', '\"{SEED}\"', @now), \
             ('DNS_SERVER', '\"9.9.9.9\"', @now), ('MAX_HYPERVISOR_MTU', '8950', @now); \
         INSERT INTO namespaces VALUES ('system', 7); \
         INSERT INTO namespace_attributes VALUES ('system', '{{\"nonced_keys\": {{}}}}', '[\"system\"]'); \
         INSERT INTO namespace_keys VALUES ('7c9e6679742540de944be07fc1f90ae7', 'system', 'bootstrap', 1); \
         INSERT INTO namespace_key_attributes VALUES \
             ('7c9e6679742540de944be07fc1f90ae7', '{hash}', 'aB3dE6gH9jK2mN5p', NULL, NULL, NULL); \
         INSERT INTO object_states VALUES ('NAMESPACE', 'system', 'created', @now, NULL), \
             ('NAMESPACE_KEY', '7c9e6679-7425-40de-944b-e07fc1f90ae7', 'created', @now, NULL)"
    ));
}

/// Reads a database as Shaken Fist does, and checks what it must understand.
fn understood(admin: &mut Admin, name: &str) -> Read {
    let read = read(admin, name, "bootstrap", &Secret::new(KEY));
    assert_eq!(
        read.config,
        serde_json::json!({"DNS_SERVER": "9.9.9.9", "MAX_HYPERVISOR_MTU": 8950})
    );
    read
}

fn upstreams_definitions(admin: &mut Admin, name: &str) -> Vec<String> {
    let mut all = definitions(admin, name);
    all.retain(|text| !text.contains("`bootstrap_") && !text.contains("`cluster_series`"));
    all
}

fn bootstrap_of_develop(server: &Server) {
    let connector = develop(server, "develop");
    let mut admin = server.admin();
    let (made, rows) = (
        upstreams_definitions(&mut admin, "develop"),
        dump(&mut admin, "develop"),
    );
    let report = bootstrap(&connector, inputs()).unwrap();
    let own = |table: &String| table.starts_with("bootstrap_") || table == "cluster_series";
    assert!(report.tables.iter().all(own), "{report:?}");
    assert!(
        report
            .operations
            .iter()
            .all(|done| done.outcome == Outcome::Created)
    );
    assert_eq!(upstreams_definitions(&mut admin, "develop"), made);
    let after = dump(&mut admin, "develop");
    for table in ["schema_versions", "nodes", "node_attributes"] {
        assert_eq!(after[table], rows[table], "{table} is upstream's alone");
    }
    let read = understood(&mut admin, "develop");
    assert_eq!(read.schema["namespaces"], 2);
    assert_eq!(read.seed.len(), 64);
    assert!(!bootstrap(&connector, inputs()).unwrap().wrote());
}

#[test]
fn a_bootstrap_in_develops_schema_is_what_upstream_reads() {
    bootstrap_of_develop(&shared());
}

#[test]
fn a_bootstrap_in_develops_schema_on_11_8() {
    bootstrap_of_develop(&Server::start_build(Build::Debian13, &[]));
}

#[test]
fn a_bootstrap_in_the_agents_own_tables_is_what_upstream_reads() {
    let server = shared();
    support::metadata::bootstrapped(&server.database("own"));
    let read = understood(&mut server.admin(), "own");
    assert_eq!(read.schema, serde_json::json!({}));
}

#[test]
fn a_cluster_of_another_deployer_in_develops_schema_is_adopted_untouched() {
    let server = shared();
    let connector = develop(&server, "other");
    let mut admin = server.admin();
    deployed(&mut admin, "other");
    let before = dump(&mut admin, "other");
    let report = bootstrap(&connector, inputs()).unwrap();
    for done in &report.operations {
        // The series is the agent's own record: nobody else can have made it.
        let series = done.name == "cluster-series";
        let expected = if series {
            Outcome::Created
        } else {
            Outcome::Adopted
        };
        assert_eq!(done.outcome, expected, "{}", done.name);
    }
    let after = dump(&mut admin, "other");
    for (table, rows) in &before {
        assert_eq!(&after[table], rows, "{table}");
    }
    assert_eq!(understood(&mut admin, "other").seed, SEED);
    assert!(!bootstrap(&connector, inputs()).unwrap().wrote());
}

/// A deployer without transactions stops anywhere: what it left is kept, what
/// it did not make is made.
#[test]
fn half_of_another_deployers_work_is_kept_and_finished() {
    let server = shared();
    let mut admin = server.admin();
    let losses = [
        "DELETE FROM cluster_config WHERE key_name = 'AUTH_SECRET_SEED'",
        "DELETE FROM cluster_config WHERE key_name = 'DNS_SERVER'",
        "DELETE FROM namespace_attributes; DELETE FROM object_states WHERE object_type = 'NAMESPACE'",
        "DELETE FROM namespaces",
        "DELETE FROM object_states WHERE object_type = 'NAMESPACE'",
        "DELETE FROM object_states WHERE object_type = 'NAMESPACE_KEY'",
        "DELETE FROM object_states",
        "DELETE FROM namespace_keys; DELETE FROM namespace_key_attributes; \
         DELETE FROM object_states WHERE object_type = 'NAMESPACE_KEY'",
    ];
    for (index, loss) in losses.into_iter().enumerate() {
        let name = format!("half{index}");
        let connector = develop(&server, &name);
        deployed(&mut admin, &name);
        admin.run(&format!("USE `{name}`; {loss}"));
        let before = dump(&mut admin, &name);
        bootstrap(&connector, inputs()).unwrap_or_else(|failures| panic!("{loss}: {failures:?}"));
        let after = dump(&mut admin, &name);
        for (table, rows) in &before {
            for row in rows {
                assert!(after[table].contains(row), "{loss}: {table} lost {row:?}");
            }
        }
        understood(&mut admin, &name);
    }
}

/// Where another deployer stopped before it had stored a key's secret, the
/// remedy does as pasted.
#[test]
fn half_a_key_is_refused_and_its_remedy_works() {
    let server = shared();
    let mut admin = server.admin();
    for (index, state) in [
        "",
        "DELETE FROM object_states WHERE object_type = 'NAMESPACE_KEY'",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("halfkey{index}");
        let connector = develop(&server, &name);
        deployed(&mut admin, &name);
        admin.run(&format!(
            "USE `{name}`; DELETE FROM namespace_key_attributes; {state}"
        ));
        let failures = bootstrap(&connector, inputs()).unwrap_err();
        assert_eq!(failures.len(), 1, "{failures:?}");
        let remedy = failures[0].remedy_text();
        let statement = &remedy[remedy.find("DELETE ").unwrap()..];
        admin.run(statement);
        bootstrap(&connector, inputs()).unwrap();
        understood(&mut admin, &name);
    }
}

type Change = fn(&mut Inputs);

/// One contradiction at a time: it is refused, both sides are named, neither
/// secret is, and nothing is written.
#[test]
fn every_contradiction_is_refused_and_names_both_sides() {
    const TABLE: [(&str, Change, [&str; 2]); 10] = [
        (
            "",
            |inputs| inputs.auth_secret_seed = Some(Secret::new("0thers-MARKER-seed")),
            [
                "secrets.auth_secret_seed",
                "AUTH_SECRET_SEED in the database",
            ],
        ),
        (
            "",
            |inputs| inputs.system_key.as_mut().unwrap().secret = Secret::new("0ther-MARKER-key"),
            [
                "secrets.system_key",
                "key bootstrap of namespace system in the database",
            ],
        ),
        (
            "",
            |inputs| {
                inputs.config.insert("DNS_SERVER".into(), "1.1.1.1".into());
            },
            [
                "is \"1.1.1.1\" in the metadata",
                "\"9.9.9.9\" in the database",
            ],
        ),
        (
            "",
            |inputs| {
                inputs
                    .config
                    .insert("MAX_HYPERVISOR_MTU".into(), 1500.into());
            },
            ["is \"1500\" in the metadata", "\"8950\" in the database"],
        ),
        (
            "UPDATE object_states SET state_value = 'deleted' WHERE object_type = 'NAMESPACE'",
            |_| {},
            [
                "the namespace system in the database",
                "is in state deleted",
            ],
        ),
        (
            "UPDATE object_states SET state_value = 'deleted' WHERE object_type = 'NAMESPACE_KEY'",
            |_| {},
            [
                "key bootstrap of namespace system in the database",
                "is deleted",
            ],
        ),
        (
            "UPDATE namespace_key_attributes SET `key` = 'bm90IGEgaGFzaA=='",
            |_| {},
            ["secrets.system_key", "which another deployer made"],
        ),
        (
            "DELETE FROM namespace_key_attributes",
            |_| {},
            [
                "key bootstrap of namespace system in the database",
                "has no row in namespace_key_attributes",
            ],
        ),
        (
            "UPDATE namespace_key_attributes SET expiry = 1000",
            |_| {},
            [
                "key bootstrap of namespace system in the database",
                "expired at 1970-01-01T00:16:40Z",
            ],
        ),
        (
            "UPDATE cluster_config SET value_json = '\"\"' WHERE key_name = 'AUTH_SECRET_SEED'",
            |_| {},
            ["AUTH_SECRET_SEED in the database", "is empty or no text"],
        ),
    ];
    for (index, (sql, change, sides)) in TABLE.into_iter().enumerate() {
        refused_and_kept(&format!("against{index}"), sql, change, sides);
    }
}

/// What a change contradicts is refused, both sides are named, and the database
/// is as it was.
fn refused_and_kept(name: &str, sql: &str, change: Change, sides: [&str; 2]) {
    let server = shared();
    let mut admin = server.admin();
    let at = format!("127.0.0.1:{}", server.port);
    let connector = develop(&server, name);
    deployed(&mut admin, name);
    admin.run(&format!("USE `{name}`; {sql}"));
    let before = dump(&mut admin, name);
    let mut ours = inputs();
    change(&mut ours);
    let failures = bootstrap(&connector, ours).unwrap_err();
    assert_eq!(failures.len(), 1, "{failures:?}");
    let failure = &failures[0];
    assert_eq!(failure.code.id, "SF-BOOTSTRAP-CONTRADICTION", "{failure}");
    assert_eq!(failure.kind().exit_code(), 77);
    for side in sides.into_iter().chain([at.as_str()]) {
        assert!(failure.what.contains(side), "{side}: {failure}");
    }
    let text = format!("{failure} {failure:?} {}", failure.remedy_text());
    for secret in ["MARKER", SEED, PASSWORD] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(!failure.remedy_text().is_empty());
    assert_eq!(dump(&mut admin, name), before, "a refusal wrote something");
}
