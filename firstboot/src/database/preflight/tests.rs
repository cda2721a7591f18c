use super::*;

#[test]
fn versions_are_judged_by_kind_and_age() {
    let table = [
        ("10.11.6-MariaDB-0+deb12u1", None),
        ("10.11.0-MariaDB", None),
        ("11.8.2-MariaDB-log", None),
        ("12.0.1-MariaDB", None),
        ("5.5.5-10.11.2-MariaDB-1:10.11.2+maria~ubu2204", None),
        ("5.5.5-10.6.0-MariaDB", Some("SF-DB-TOO-OLD")),
        ("10.10.99-MariaDB", Some("SF-DB-TOO-OLD")),
        ("10.5.23-MariaDB-log", Some("SF-DB-TOO-OLD")),
        ("MariaDB", Some("SF-DB-TOO-OLD")),
        ("8.0.36", Some("SF-DB-NOT-MARIADB")),
        ("8.4.0-0ubuntu0.24.04.1", Some("SF-DB-NOT-MARIADB")),
        ("5.7.44-log", Some("SF-DB-NOT-MARIADB")),
        ("", Some("SF-DB-NOT-MARIADB")),
    ];
    for (version, expected) in table {
        let found = judge_version("db:1", version).map(|failure| failure.code.id);
        assert_eq!(found, expected, "{version}");
    }
}

#[test]
fn character_sets_are_judged_with_a_remedy_to_paste() {
    assert!(judge_charset("db:1", "sf", "utf8mb4", "utf8mb4_unicode_ci").is_none());
    assert!(judge_charset("db:1", "sf", "utf8mb4", "uca1400_ai_ci").is_none());
    for (charset, collation) in [
        ("latin1", "latin1_swedish_ci"),
        ("utf8mb3", "utf8mb3_general_ci"),
    ] {
        let failure = judge_charset("db:1", "sf", charset, collation).unwrap();
        assert_eq!(failure.code.id, "SF-DB-CHARSET");
        assert!(
            failure
                .remedy_text()
                .contains("ALTER DATABASE `sf` CHARACTER SET utf8mb4")
        );
        assert!(failure.what.contains(charset));
    }
}

#[test]
fn what_to_grant_is_pasted_or_printed_by_a_command_but_never_more_than_needed() {
    let versions = BTreeMap::new();
    let judged = |role, bootstraps, granted: &str| {
        let facts = Facts {
            version: String::new(),
            engine: String::new(),
            enforced: String::new(),
            charset: String::new(),
            collation: String::new(),
            account: Account::parse("sf@10.%"),
            name: "db".into(),
            grants: Grants::parse([granted]),
        };
        let need = Need {
            role,
            bootstraps,
            schema: &Schema::Agent,
            schema_versions: &versions,
        };
        let failure = judge_grants("db:1", "db", &facts, &need).unwrap();
        failure.remedy_text().to_owned()
    };
    let command = "Run on the server, as an administrator, what `sf-firstboot grants \
         --role network --database 'db' --user 'sf' --host '10.%'` prints.";
    assert_eq!(judged(Role::Network, false, ""), command);
    let tier = judged(
        Role::DatabaseTier,
        true,
        "GRANT SELECT, INSERT, DELETE, CREATE ON `db`.* TO `sf`@`10.%`",
    );
    let few = "On the server: GRANT UPDATE, REFERENCES ON `db`.* TO 'sf'@'10.%';";
    assert_eq!(tier, few);
    // `grants --role database-tier` would let a node write that is to wait.
    let waits = judged(Role::DatabaseTier, false, "");
    assert!(
        waits.starts_with(
            "On the server: GRANT CREATE, SELECT, DELETE ON `db`.`bootstrap_claims` TO 'sf'@'10.%';"
        ) && !waits.contains("`db`.*"),
        "{waits}"
    );
}

#[test]
fn engines_are_judged() {
    for (default, enforced, told) in [
        ("InnoDB", "", None),
        ("InnoDB", "InnoDB", None),
        ("MyISAM", "InnoDB", Some("the default storage engine of")),
        ("MyISAM", "", Some("the default storage engine of")),
        ("InnoDB", "Aria", Some("the enforced storage engine of")),
    ] {
        let found = judge_engine("db:1", default, enforced).map(|failure| failure.what);
        assert_eq!(found.is_some(), told.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().starts_with(told.unwrap_or("")));
    }
}

#[test]
fn versions_of_tables_are_compared_one_by_one() {
    let map = |all: &[(&str, u32)]| {
        all.iter()
            .map(|(table, version)| ((*table).to_owned(), *version))
            .collect::<BTreeMap<String, u32>>()
    };
    let expected = map(&[("blobs", 3), ("nodes", 7)]);
    let command = Schema::Command {
        command: vec!["sf-ctl".into(), "ensure-mariadb-schema".into()],
        expected: BTreeMap::new(),
    };
    let judged = |found: &[(&str, u32)]| {
        judge_schema("db:1 as sf", &command, &expected, &map(found))
            .iter()
            .map(|failure| format!("{} {}", failure.code.id, failure.what))
            .collect::<Vec<_>>()
    };
    assert_eq!(judged(&[("blobs", 3), ("nodes", 7)]), [""; 0]);
    assert_eq!(
        judged(&[("nodes", 6)]),
        [
            "SF-DB-SCHEMA-OLD tables in the database at db:1 as sf are older than this image's \
          release needs: blobs is absent, expected 3; nodes is 6, expected 7"
        ]
    );
    assert_eq!(
        judged(&[("blobs", 3), ("nodes", 8), ("uploads", 1)]),
        [
            "SF-DB-SCHEMA-NEW tables in the database at db:1 as sf are newer than this image's \
          release knows: nodes is 8, expected 7; uploads is 1, expected absent"
        ]
    );
    assert_eq!(judged(&[("blobs", 2), ("nodes", 8)]).len(), 2);
    let old = judge_schema("x", &command, &expected, &map(&[]));
    assert!(
        old[0]
            .remedy_text()
            .contains("sf-ctl ensure-mariadb-schema")
    );
}
