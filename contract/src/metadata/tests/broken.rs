//! Documents that are wrong, and what is said about them.

use std::time::{Duration, Instant};

use super::*;
use crate::metadata::check_roles;

#[test]
fn all_mistakes_are_found_in_one_run() {
    let text = "schema = 1\ncolour = 1\n[node]\nnmae = \"x\"\nmesh = \"10.0.0.1\"\negress = { address = 5, interfcae = \"e\" }\ndsn = \"mysql://u:canary@h/d\"\n[nodes]\nx = 1\n[cluster]\ndatabase_nodes = \"10.0.0.1\"\nhosts = { db1.example.com = \"10.0.0.1\" }\nmax_hypervisor_mtu = \"8950\"\n[secrets]\nsystem_key = { credentail = \"x\" }\nauth_secret_seed = { credential = \"a\", file = \"/b\" }\n[config]\nX = [1]\n";
    insta::assert_snapshot!(problems(text, Role::Hypervisor).join("\n"), @r#"
    metadata.toml: unknown key "colour" (known at the top: schema, node, cluster, database, pki, secrets, config, bootstrap, report)
    metadata.toml: node.nmae: unknown key "nmae" (did you mean "name"?)
    metadata.toml: node.mesh: expected a table, found a string (for example [node] mesh = { address = "10.0.0.11", interface = "eth1" })
    metadata.toml: node.egress.address: expected an IPv4 address, a string such as "10.0.0.1", found a whole number (for example egress = { address = "192.0.2.11", interface = "eth0" })
    metadata.toml: node.egress.interfcae: unknown key "interfcae" (did you mean "interface"?)
    metadata.toml: node.dsn: unknown key "dsn" (that key belongs to another table: database.dsn; known in [node]: name, mesh, egress, reservations)
    metadata.toml: unknown key "nodes" (did you mean "node"?)
    metadata.toml: cluster.database_nodes: expected a list of IPv4 addresses or names of [cluster.hosts], found a string (for example database_nodes = ["10.0.0.1"])
    metadata.toml: cluster.hosts.db1: expected an IPv4 address, a string such as "10.0.0.1", found a table (a name with dots stands in quotes: "db1.example.com" = "10.0.0.1")
    metadata.toml: cluster.max_hypervisor_mtu: expected a whole number of bytes, such as 8950, found a string (for example max_hypervisor_mtu = 8950)
    metadata.toml: secrets.system_key.credentail: unknown key "credentail" (write { credential = "name" } or { file = "/path" })
    metadata.toml: secrets.auth_secret_seed: names both a credential and a file (write { credential = "name" } or { file = "/path" })
    metadata.toml: config.X: expected a string, a number or true or false, found a list (for example ETCD_HOST = "10.0.0.1")
    node metadata: node.name: missing: a node of role hypervisor cannot do without it (add under [node]: name = "hv1.example.com")
    node metadata: database.dsn: missing: a node of role hypervisor cannot do without it (add under [database]: dsn = "mysql://sf:PASSWORD@db1.example.com:3306/shakenfist")
    node metadata: config.ETCD_HOST: missing: a node of role hypervisor cannot do without it (add under [config]: ETCD_HOST = "10.0.0.1")
    node metadata: node.egress.interface: missing: a node of role hypervisor cannot do without it (add under [node]: egress = { address = "192.0.2.11", interface = "eth0" })
    node metadata: cluster.network_node: missing: a node of role hypervisor cannot do without it (add under [cluster]: network_node = "10.0.0.2")
    "#);
}

#[test]
fn what_a_node_needs_is_asked_for_at_once_with_the_line_to_write() {
    insta::assert_snapshot!(problems("schema = 1\n[node]\nname = \"a.b\"\n", Role::Network).join("\n"), @r#"
    node metadata: database.dsn: missing: a node of role network cannot do without it (add under [database]: dsn = "mysql://sf:PASSWORD@db1.example.com:3306/shakenfist")
    node metadata: config.ETCD_HOST: missing: a node of role network cannot do without it (add under [config]: ETCD_HOST = "10.0.0.1")
    node metadata: node.mesh.address: missing: a node of role network cannot do without it (add under [node]: mesh = { address = "10.0.0.11", interface = "eth1" })
    node metadata: node.mesh.interface: missing: a node of role network cannot do without it (add under [node]: mesh = { address = "10.0.0.11", interface = "eth1" })
    node metadata: node.egress.address: missing: a node of role network cannot do without it (add under [node]: egress = { address = "192.0.2.11", interface = "eth0" })
    node metadata: node.egress.interface: missing: a node of role network cannot do without it (add under [node]: egress = { address = "192.0.2.11", interface = "eth0" })
    node metadata: cluster.network_node: missing: a node of role network cannot do without it (add under [cluster]: network_node = "10.0.0.2")
    "#);
}

#[test]
fn schemas_other_than_1_are_refused() {
    for (text, wanted) in [
        (
            "[node]\n",
            "metadata.toml: missing key \"schema\" (the first line is `schema = 1`)",
        ),
        (
            "schema = 2\n[noed]\n",
            "metadata.toml: schema 2 is not known (this image reads schema 1)",
        ),
        (
            "schema = \"1\"\n",
            "metadata.toml: schema: expected a whole number, found a string (write `schema = 1`)",
        ),
        (
            "",
            "metadata.toml: the document is empty (its first line is `schema = 1`)",
        ),
        (
            "\u{feff}\n",
            "metadata.toml: the document is empty (its first line is `schema = 1`)",
        ),
        (
            " \n\t\n",
            "metadata.toml: the document is empty (its first line is `schema = 1`)",
        ),
    ] {
        let found: Vec<String> = file(text)
            .problems
            .iter()
            .map(|finding| finding.problem.to_string())
            .collect();
        assert_eq!(found, [wanted], "{text:?}");
    }
}

#[test]
fn what_stands_twice_is_said_to_stand_twice() {
    let [one, two] = [
        "node.name = \"a.b\"\nnode.name = \"c.d\"",
        "node.name = \"a.b\"\n[node]",
    ]
    .map(|text| file(&format!("schema = 1\n{text}\n")).problems);
    for found in [one, two] {
        let text = found[0].problem.to_string();
        assert!(
            text.contains("duplicate key") && text.contains("it stands twice"),
            "{text}"
        );
    }
}

#[test]
fn the_wrong_document_does_not_fill_the_console() {
    let keys: Vec<String> = (0..100).map(|key| format!("key{key} = 1")).collect();
    let text = format!("schema = 1\n{}\n", keys.join("\n"));
    let (merged, checked) = checked(&text, Role::Hypervisor);
    let many = checked.problems.len();
    assert!(many > 100);
    let frames = merged.frames(checked.problems.iter().map(|finding| &finding.problem));
    assert_eq!(frames.matches("error: ").count(), super::super::MOST);
    let rest = format!("\n\nand {} more", many - super::super::MOST);
    assert!(frames.ends_with(&rest), "{frames}");
}

/// Eight times the keys may take eight times as long; the square of them would
/// be 64. The better of two tries each: others use this machine.
#[test]
fn a_huge_document_is_judged_in_proportion_to_its_size() {
    fn judged(text: &str) -> Duration {
        let once = || {
            let began = Instant::now();
            let merged = merge([file(text)]);
            let verdict = check_roles(&merged, &resolve(&merged), &release(), &Role::ALL);
            let last = verdict.problems.last().unwrap();
            assert!(merged.place_of(&last.problem).starts_with("node metadata"));
            let lines = verdict
                .problems
                .iter()
                .filter(|finding| merged.place_of(&finding.problem).contains(".toml:"))
                .count();
            assert!(lines >= 1500, "{lines}");
            began.elapsed()
        };
        (0..2).map(|_| once()).min().unwrap()
    }
    for (table, line) in [
        ("[node]", "key# = 1"),
        ("[cluster.hosts]", "\"h#_\" = \"10.0.0.1\""),
        ("[config]", "key_# = 1"),
    ] {
        let text = |keys: u32| {
            let lines: Vec<String> = (0..keys)
                .map(|key| line.replace('#', &key.to_string()))
                .collect();
            format!("schema = 1\n{table}\n{}\n", lines.join("\n"))
        };
        let (small, large) = (judged(&text(1500)), judged(&text(12_000)));
        assert!(large < 24 * small, "{table}: {small:?}, then {large:?}");
    }
}

#[test]
fn mistakes_come_in_the_order_of_the_text() {
    let text =
        "schema = 1\n[node]\nname = \"a_b\"\nnmae = 1\n[database]\nwait = \"5 days\"\nwiat = 1\n";
    let (merged, checked) = checked(text, Role::Hypervisor);
    let places: Vec<String> = checked
        .problems
        .iter()
        .map(|finding| merged.place_of(&finding.problem))
        .collect();
    let lines = [3, 4, 6, 7].map(|line| format!("metadata.toml:{line}"));
    assert_eq!(places[..4], lines, "{places:?}");
    assert!(
        places[4..].iter().all(|place| place == "node metadata"),
        "{places:?}"
    );
}

#[test]
fn frames_show_keys_and_no_values() {
    let text = "schema = 1\n[database]\ndsn = \"canary\"\nwiat = \"canary\"\n";
    let (merged, checked) = checked(text, Role::Hypervisor);
    let frames: Vec<String> = checked
        .problems
        .iter()
        .take(2)
        .map(|finding| merged.frame(&finding.problem))
        .collect();
    insta::assert_snapshot!(frames.join("\n"), @r#"
    error: database.dsn: the DSN does not start with mysql:// (MariaDB's scheme is mysql too); write it as mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?ssl-mode=…]
     --> metadata.toml:3:7
      |
    3 | dsn =*********
      |       ^^^^^^^^
    error: database.wiat: unknown key "wiat"
     --> metadata.toml:4:1
      |
    4 | wiat =*********
      | ^^^^
      |
      = help: did you mean "wait"?
    "#);
}

/// What people write when they get TOML wrong, with a secret on the line.
#[test]
fn a_syntax_error_is_answered_by_what_helps_against_it() {
    let quotes = " (a string stands in double quotes; one field, one line)";
    for (line, helps) in [
        (
            "[node",
            " (a table's name stands in brackets on a line of its own: [node])",
        ),
        (
            "node.name",
            " (a field stands with its value: name = \"db1.example.com\")",
        ),
        ("node.name = db1", quotes),
        ("node.name = \"db1", quotes),
        ("node.name = \"db1\" cluster.zone = \"z\"", quotes),
        ("config.A = [1, 2", ""),
        ("node..name = 1", ""),
    ] {
        let found = problems(&format!("schema = 1\n{line}\n"), Role::Hypervisor);
        let said = found
            .iter()
            .find(|said| said.contains("not valid TOML"))
            .unwrap_or_else(|| panic!("{line}: {found:?}"));
        let hint = said.find(" (").map_or("", |at| &said[at..]);
        assert_eq!(hint, helps, "{line}: {said}");
    }
}

#[test]
fn syntax_errors_show_no_secret() {
    for text in [
        "[database]\ndsn = mysql://sf:CANARY@db1/sf\n",
        "[database]\ndsn = \"mysql://sf:CANARY@db1/sf\n",
        "[database]\ndsn = 'mysql://sf:CANARY@db1/sf\n[node]\nname = 'x'\n",
        "[database]\ndsn: mysql://sf:CANARY@db1/sf\n",
        "[secrets]\nsystem_key = CANARY\n",
        "[secrets]\nsystem_key = CANARY=CANARY==\n",
        "[secrets]\nsystem_key = CANARY # CANARY\n",
        "[secrets]\nsystem_key = \"CANARY\" CANARY\n",
        "[secrets]\nsystem_key = \"CANARY\\q\"\n",
        "[secrets]\nsystem_key = 'CAN'ARY CANARY'\n",
        "[secrets]\nsystem_key = \"CANARY\"\nsystem_key = \"CANARY\"\n",
        "[secrets]\nsystem_key = { credential: CANARY }\n",
        "[secrets]\nsystem_key CANARY\n",
        "[secrets]\nCANARY\n",
        "[secrets]\nsystem_key = [CANARY\n[CANARY]\n",
        "[secrets]\nsystem_key = [\n[CANARY]\n",
        "[pki]\nkey = \"-----BEGIN PRIVATE KEY-----\nCANARY\nCANARY==\n-----END PRIVATE KEY-----\"\n",
        "[pki]\nkey = -----BEGIN PRIVATE KEY-----\nCANARY=\nCANARY.CANARY = CANARY\n",
        "[pki]\nkey = \"\"\"\n-----BEGIN PRIVATE KEY-----\nCANARY==\n",
        "[secrets]\nsystem_key = 2024-CANARY\n",
        "[secrets]\nsystem_key = 0xCANARY\n",
    ] {
        let text = format!("schema = 1\n{text}");
        let merged = merge([file(&text)]);
        assert!(
            merged
                .problems()
                .iter()
                .any(|finding| finding.class == crate::metadata::Class::Syntax),
            "{text}"
        );
        for finding in merged.problems() {
            let shown = format!(
                "{:?} {} {}",
                finding,
                finding.problem,
                merged.frame(&finding.problem)
            );
            assert!(!shown.contains("CANARY"), "{text}\n{shown}");
        }
    }
}

/// A secret in a field that takes none: its header is missing, or a quote is.
#[test]
fn a_stray_secret_is_not_quoted_and_is_told_its_place() {
    let text = "schema = 1\n[node]\nname = \"\"\"\nsystem_key = 'canary'\n\"\"\"\n[cluster]\nzone = 'x, system_key = \"canary\", '\ndatabase_nodes = [\"mysql://u:canary@h\"]\n[cluster.hosts]\ndsn = \"canary\"\nsystem_key = \"canary\"\ntoken = \"canary\"\n[pki]\nca = \"\"\"/x\ncanary\"\"\"\nkey = { file = \"\"\"/x\nkey = 'canary\"\"\" }\n";
    let found: Vec<String> = problems(text, Role::Network)
        .into_iter()
        .filter(|problem| !problem.contains("missing"))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    metadata.toml: node.name: expected a host name, a string such as "db1.example.com"; what stands there is not shown, since it looks like a secret (look for a quote that is not closed, or not as it began)
    metadata.toml: node.name: holds '=', which this release's sf-ctl cannot read in /etc/sf/config (use a value without it; for a random one `openssl rand -hex 32`)
    metadata.toml: cluster.zone: expected a string of letters, digits, '.', '_' and '-'; what stands there is not shown, since it looks like a secret (look for a quote that is not closed, or not as it began)
    metadata.toml: cluster.zone: holds '=', which this release's sf-ctl cannot read in /etc/sf/config (use a value without it; for a random one `openssl rand -hex 32`)
    metadata.toml: cluster.database_nodes: expected a list of IPv4 addresses or names of [cluster.hosts], found a list with something else in it (for example database_nodes = ["10.0.0.1"])
    metadata.toml: cluster.hosts.dsn: expected an IPv4 address, a string such as "10.0.0.1"; what stands there is not shown, since it looks like a secret (that key belongs to another table: database.dsn)
    metadata.toml: cluster.hosts.system_key: "system_key" holds '_' (that key belongs to another table: secrets.system_key)
    metadata.toml: cluster.hosts.token: expected an IPv4 address, a string such as "10.0.0.1"; what stands there is not shown, since it looks like a secret (look for a quote that is not closed, or not as it began)
    metadata.toml: pki.ca: is not PEM text (it starts with -----BEGIN; give certificates, or a path that starts with '/')
    metadata.toml: pki.key.file: is no name or path: it has several lines, a password or a field in it (look for a quote that is not closed)
    "#);
}

/// Behind a syntax error half a value can look like a key.
#[test]
fn a_wrapped_secret_is_no_key() {
    for rest in ["CANARY==\"", "CANARY = 3", "\"CANARY\" = 3", "CANARY = [1]"] {
        for table in ["config", "cluster.config", "cluster.hosts"] {
            let text = format!(
                "schema = 1\n[cluster]\nnetwork_node = \"b\"\n[{table}]\nA = \"10.0.0.1\"\nX_TOKEN = \"CAN\n{rest}\nb = \"10.0.0.2\"\n"
            );
            let (merged, checked) = checked(&text, Role::Hypervisor);
            let shown = format!("{merged:?} {checked:?}");
            assert!(!shown.contains("CANARY"), "{text}\n{shown}");
            // Keys in front of it are known, and nothing is said of those behind.
            assert!(merged.get(&format!("{table}.A")).is_some(), "{text}");
            assert!(!shown.contains("is not a name of"), "{shown}");
        }
    }
}
