use super::*;
use proptest::prelude::*;

const AGENT: Schema = Schema::Agent;

fn missing(lines: &[&str], role: Role) -> Vec<String> {
    Grants::parse(lines.iter().copied())
        .missing("shaken_fist", &needs(role, role.bootstraps(), &AGENT))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn what_is_granted_is_found_wherever_it_stands() {
    let enough: [&[&str]; 5] = [
        &["GRANT ALL PRIVILEGES ON *.* TO `sf`@`%` IDENTIFIED BY PASSWORD '*00' WITH GRANT OPTION"],
        &["GRANT ALL PRIVILEGES ON `shaken\\_fist`.* TO `sf`@`%`"],
        &["GRANT ALL PRIVILEGES ON `shaken%`.* TO `sf`@`%` WITH GRANT OPTION"],
        &[
            "GRANT USAGE ON *.* TO `sf`@`%`",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, REFERENCES ON `shaken_fist`.* TO `sf`@`%`",
        ],
        // By a role: SHOW GRANTS lists the active role's own lines as well.
        &[
            "GRANT `deployers` TO `sf`@`%`",
            "GRANT USAGE ON *.* TO `sf`@`%`",
            "GRANT SELECT ON *.* TO `deployers`",
            "GRANT INSERT, UPDATE, DELETE, CREATE, REFERENCES ON `shaken\\_fist`.* TO `deployers`",
            "SET DEFAULT ROLE `deployers` FOR `sf`@`%`",
        ],
    ];
    for lines in enough {
        assert_eq!(missing(lines, Role::DatabaseTier), [""; 0], "{lines:?}");
    }
}

const NONE_OF_A_HYPERVISORS: &[&str] = &[
    "SELECT on bootstrap_claims, bootstrap_nodes, bootstrap_operations, cluster_config and cluster_series",
    "INSERT on bootstrap_nodes and cluster_series",
    "UPDATE on bootstrap_nodes",
    "DELETE on bootstrap_claims and cluster_series",
];

#[test]
fn what_is_not_granted_is_named() {
    let table: [(&[&str], Role, &[&str]); 7] = [
        (
            &["GRANT USAGE ON *.* TO `sf`@`%`"],
            Role::Hypervisor,
            NONE_OF_A_HYPERVISORS,
        ),
        (
            &["GRANT SELECT, INSERT ON `shaken\\_fist`.* TO `sf`@`%`"],
            Role::DatabaseTier,
            &["UPDATE", "DELETE", "CREATE", "REFERENCES"],
        ),
        // Another database, one character off: `\_` is not a wildcard.
        (
            &["GRANT ALL PRIVILEGES ON `shaken\\_fis`.* TO `sf`@`%`"],
            Role::Network,
            &[
                NONE_OF_A_HYPERVISORS[0],
                "INSERT on bootstrap_claims, bootstrap_nodes and cluster_series",
                NONE_OF_A_HYPERVISORS[2],
                NONE_OF_A_HYPERVISORS[3],
            ],
        ),
        // Columns and single tables are not the whole database.
        (
            &[
                "GRANT SELECT (name), INSERT, UPDATE, DELETE, CREATE, REFERENCES ON `shaken_fist`.* TO `a`",
            ],
            Role::DatabaseTier,
            &["SELECT"],
        ),
        (
            &["GRANT ALL PRIVILEGES ON `shaken_fist`.`cluster_config` TO `a`"],
            Role::DatabaseTier,
            &[
                "SELECT",
                "INSERT",
                "UPDATE",
                "DELETE",
                "CREATE",
                "REFERENCES",
            ],
        ),
        // Procedures and proxies grant nothing of this kind.
        (
            &[
                "GRANT EXECUTE ON PROCEDURE `shaken_fist`.`p` TO `sf`@`%`",
                "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION",
                "GRANT ALL PRIVILEGES ON `shaken``_fist`.* TO `sf`@`%`",
            ],
            Role::Hypervisor,
            NONE_OF_A_HYPERVISORS,
        ),
        (
            &["GRANT SELECT, UPDATE, DELETE ON `shaken_fist`.* TO `sf`@`%`"],
            Role::Hypervisor,
            &["INSERT on bootstrap_nodes and cluster_series"],
        ),
    ];
    for (lines, role, expected) in table {
        assert_eq!(missing(lines, role), expected, "{lines:?}");
    }
}

#[test]
fn roles_that_only_read_do_with_grants_on_their_tables() {
    let mut lines: Vec<String> = OTHERS
        .iter()
        .flat_map(|need| need.tables.iter().map(move |table| (need.privilege, table)))
        .map(|(privilege, table)| {
            format!("GRANT {privilege} ON `shaken_fist`.`{table}` TO `sf`@`%`")
        })
        .collect();
    let grants = |lines: &[String]| {
        Grants::parse(lines.iter().map(String::as_str))
            .missing("shaken_fist", &needs(Role::Hypervisor, false, &AGENT))
    };
    assert!(grants(&lines).is_empty());
    lines.retain(|line| {
        line != "GRANT DELETE ON `shaken_fist`.`cluster_series` TO `sf`@`%`"
            && line != "GRANT UPDATE ON `shaken_fist`.`bootstrap_nodes` TO `sf`@`%`"
    });
    let missing = grants(&lines);
    let named: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        named,
        ["UPDATE on bootstrap_nodes", "DELETE on cluster_series"]
    );
    assert_eq!(
        statements(&Account::parse("sf@%"), "shaken_fist", &missing),
        [
            "GRANT CREATE, UPDATE ON `shaken_fist`.`bootstrap_nodes` TO 'sf'@'%';",
            "REVOKE CREATE ON `shaken_fist`.`bootstrap_nodes` FROM 'sf'@'%';",
            "GRANT CREATE, DELETE ON `shaken_fist`.`cluster_series` TO 'sf'@'%';",
            "REVOKE CREATE ON `shaken_fist`.`cluster_series` FROM 'sf'@'%';",
        ]
    );
}

#[test]
fn accounts_are_quoted_for_sql_and_for_a_shell() {
    for (account, sql, shell) in [
        (
            "o'neil@10.%",
            "'o''neil'@'10.%'",
            r"--user 'o'\''neil' --host '10.%'",
        ),
        (r"sf@a\b@%", r"'sf@a\\b'@'%'", r"--user 'sf@a\b' --host '%'"),
        ("sf", "'sf'@'%'", "--user 'sf' --host '%'"),
    ] {
        let account = Account::parse(account);
        assert_eq!(account.to_string(), sql);
        assert_eq!(
            account.command("network", "db"),
            format!("sf-firstboot grants --role network --database 'db' {shell}")
        );
    }
}

#[test]
fn statements_can_be_pasted() {
    assert_eq!(
        least(
            Role::DatabaseTier,
            &AGENT,
            "shaken_fist",
            "o'neil",
            "10.0.0.%"
        ),
        [
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, REFERENCES ON `shaken\\_fist`.* TO 'o''neil'@'10.0.0.%';"
        ]
    );
    let network = least(Role::Network, &AGENT, "shaken_fist", "sf", "%");
    assert_eq!(
        network[0],
        "GRANT CREATE, SELECT, INSERT, DELETE ON `shaken_fist`.`bootstrap_claims` TO 'sf'@'%';"
    );
    let hypervisor = least(Role::Hypervisor, &AGENT, "shaken_fist", "sf", "%");
    assert_eq!(
        hypervisor[0],
        "GRANT CREATE, SELECT, DELETE ON `shaken_fist`.`bootstrap_claims` TO 'sf'@'%';"
    );
    assert_eq!(
        hypervisor[1],
        "REVOKE CREATE ON `shaken_fist`.`bootstrap_claims` FROM 'sf'@'%';"
    );
    assert_eq!((network[1..].len(), hypervisor[1..].len()), (9, 9));
}

#[test]
fn who_leaves_the_bootstrap_to_others_still_claims_and_reads_versions() {
    let command = Schema::Command {
        command: vec!["sf-ctl".into()],
        expected: std::collections::BTreeMap::new(),
    };
    let waiting = needs(Role::SingleNode, false, &command);
    assert!(waiting.contains(&CLAIMING) && waiting.contains(&VERSIONS));
    assert!(waiting.iter().all(|need| !need.tables.is_empty()));
    assert!(!needs(Role::Hypervisor, false, &command).contains(&VERSIONS));
}

#[test]
fn patterns_match_as_mariadb_matches_them() {
    for (pattern, text, fits) in [
        ("", "", true),
        ("", "a", false),
        ("%", "", true),
        ("a%", "a", true),
        ("a%", "ba", false),
        ("%b", "ab", true),
        ("%b", "aba", false),
        ("%ab", "aab", true),
        ("a%b%c", "a__b_bc", true),
        ("a%b%c", "a__c_bb", false),
        ("_", "", false),
        ("_%_", "ab", true),
        ("_%_", "a", false),
        (r"\%", "%", true),
        (r"\%", "a", false),
        (r"a\_b", "a_b", true),
        (r"a\_b", "axb", false),
        (r"a\", r"a\", true),
        ("\u{e9}_", "\u{e9}\u{e9}", true),
    ] {
        assert_eq!(like(pattern, text), fits, "{pattern} {text}");
    }
    // Each % doubled the time once.
    assert!(!like(&format!("{}b", "%a".repeat(30)), &"a".repeat(60)));
}

proptest! {
    #[test]
    fn any_line_parses_without_panic(line in "\\PC{0,80}|GRANT [A-Z ,()`*.]{0,60}") {
        let _ = Grants::parse([line.as_str()]);
    }

    #[test]
    fn an_escaped_name_matches_itself_alone(name in "[a-z_%]{1,12}", other in "[a-z_%]{1,12}") {
        let pattern = name.replace('_', "\\_").replace('%', "\\%");
        prop_assert!(like(&pattern, &name));
        prop_assert_eq!(like(&pattern, &other), name == other);
    }
}
