//! `sf-firstboot grants`: what it prints is enough for everything that the agent
//! does, and nothing of it can be left out.

use super::node::{Node, Ran};
use super::server::{PASSWORD, Server};

/// A node of that role whose user has what `grants` prints, granted before
/// there is any table.
fn node(server: &Server, role: &str) -> Node {
    let node = Node::new(role);
    node.metadata(server.port, "");
    node.edit("node5", role);
    let path = node.root().join("usr/lib/sf-image/release.toml");
    let release = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        release.replace("within_seconds = 5", "within_seconds = 0"),
    )
    .unwrap();
    node.edit("mysql://sf:", &format!("mysql://{role}:"));
    server.sql(&format!(
        "CREATE USER `{role}`@`%` IDENTIFIED BY '{PASSWORD}'"
    ));
    let ran = node.agent(&["grants", "--role", role, "--user", role]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    server.sql(&ran.stdout);
    let granted = server.sql(&format!("SHOW GRANTS FOR `{role}`@`%`"));
    assert_eq!(
        granted.contains("CREATE"),
        role == "database-tier",
        "{granted}"
    );
    node
}

/// What can be revoked: privilege and scope.
fn each(server: &Server, role: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for line in server.sql(&format!("SHOW GRANTS FOR `{role}`@`%`")).lines() {
        let (privileges, rest) = line
            .strip_prefix("GRANT ")
            .unwrap()
            .split_once(" ON ")
            .unwrap();
        let scope = rest.split_once(" TO ").unwrap().0;
        if scope != "*.*" {
            let scope = scope.replace("\\\\", "\\");
            all.extend(
                privileges
                    .split(", ")
                    .map(|one| (one.to_owned(), scope.clone())),
            );
        }
    }
    all
}

#[test]
fn what_is_printed_is_enough_and_none_of_it_can_be_left_out() {
    let server = Server::started();
    let roles = ["hypervisor", "network", "database-tier"];
    let nodes = roles.map(|role| node(&server, role));
    let waiting: Vec<_> = nodes[..2].iter().map(|node| node.start(&["run"])).collect();
    let ran = nodes[2].agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for run in waiting {
        let ran = Node::end(run);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    // Again, then what the daemons answer, then another series: in, and back again, the old one retired.
    for node in &nodes {
        assert_eq!(node.agent(&["run"]).code, 0);
        assert_eq!(node.agent(&["ready"]).code, 75);
        assert_eq!(node.agent(&["gate", "sf-api"]).code, 0);
    }
    let outcomes = "SELECT DISTINCT series, outcome, last_error FROM shakenfist.bootstrap_nodes";
    assert_eq!(server.sql(outcomes), "0.8\twaiting\tSF-DAEMON-NOT-READY");
    for (minor, before) in [(9, 8), (8, 9)] {
        for node in &nodes {
            let path = node.root().join("usr/lib/sf-image/manifest.json");
            let manifest: String = std::fs::read_to_string(&path).unwrap();
            let manifest = manifest
                .replace(
                    &format!("\"series\":\"0.{before}\""),
                    &format!("\"series\":\"0.{minor}\""),
                )
                .replace("\"predecessor\":\"0.8\"", "\"predecessor\":\"0.7\"");
            let manifest = if minor == 9 {
                manifest.replace("\"predecessor\":\"0.7\"", "\"predecessor\":\"0.8\"")
            } else {
                manifest
            };
            std::fs::write(&path, manifest).unwrap();
            let ran = node.agent(&["run"]);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        }
        assert_eq!(
            server.sql("SELECT series FROM shakenfist.cluster_series"),
            format!("0.{minor}")
        );
    }
    // From network to hypervisor, with the network role's own user.
    let path = nodes[1].root().join("usr/lib/sf-image/manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let other = manifest.replace("\"role\":\"network\"", "\"role\":\"hypervisor\"");
    assert_ne!(manifest, other);
    std::fs::write(&path, other).unwrap();
    assert_eq!(nodes[1].agent(&["run"]).code, 0);
    assert_eq!(server.sql("SELECT * FROM shakenfist.bootstrap_claims"), "");
    std::fs::write(&path, manifest).unwrap();
    assert_eq!(nodes[1].agent(&["run"]).code, 0);

    for (role, node) in roles.iter().zip(&nodes) {
        let each = each(&server, role);
        let expected = [10, 11, 6][roles.iter().position(|one| one == role).unwrap()];
        assert_eq!(each.len(), expected, "{role}: {each:?}");
        for (privilege, scope) in each {
            server.sql(&format!("REVOKE {privilege} ON {scope} FROM `{role}`@`%`"));
            let ran = node.agent(&["check"]);
            assert_eq!(
                ran.code, 78,
                "{role} without {privilege} on {scope}: {}{}",
                ran.stdout, ran.stderr
            );
            let table = scope.rsplit('`').nth(1).unwrap();
            let named = if *role == "database-tier" {
                privilege.clone()
            } else {
                format!("{privilege} on {table}")
            };
            assert!(
                ran.stderr.contains("SF-DB-GRANTS")
                    && ran.stderr.contains(&format!("needs: {named}")),
                "{named}: {}",
                ran.stderr
            );
            server.sql(&format!("GRANT {privilege} ON {scope} TO `{role}`@`%`"));
        }
        let ran = node.agent(&["check"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let tried = "Rehearsed and rolled back: the gate's passage.";
        assert!(ran.stdout.contains(tried), "{}", ran.stdout);
    }
}

/// Does the desk see all of the record, release a claim and forget a node?
/// What it says, for a failed assertion.
fn desk_works(server: &Server, node: &Node, dsn: &std::path::Path) -> Result<(), String> {
    server.sql(
        "USE shakenfist; REPLACE INTO bootstrap_claims VALUES ('network', 'gone.example.com', 'x', 1); \
         REPLACE INTO bootstrap_nodes (fqdn, role, series, release_version, image_version, instance_id, phase, outcome, last_boot) \
         VALUES ('gone.example.com', 'network', '0.8', '', '', 'x', 'start', 'refused', 1)",
    );
    let desk = |arguments: &[&str]| {
        let mut all = vec!["cluster"];
        all.extend(arguments);
        all.extend(["--database-file", dsn.to_str().unwrap()]);
        let ran = node.agent(&all);
        assert!(!ran.stderr.contains(PASSWORD), "{}", ran.stderr);
        if ran.code == 0 {
            Ok(ran.stdout)
        } else {
            Err(ran.stderr)
        }
    };
    desk(&["release-claim", "network", "--yes"])?;
    desk(&["forget", "gone.example.com", "--yes"])?;
    let text = desk(&["status", "--json"])?;
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cluster = &seen["cluster"];
    let whole = cluster["bootstrapped"] == true
        && cluster["series"][0]["nodes"] == 1
        && cluster["events"][0]["action"] == "forget"
        && cluster["events"][1]["action"] == "release-claim";
    if whole { Ok(()) } else { Err(text) }
}

#[test]
fn an_operator_of_its_own_watches_forgets_and_releases_and_no_more() {
    let server = Server::started();
    let tier = Node::new("database-tier");
    tier.metadata(server.port, "");
    // Before there is any table.
    server.sql(&format!(
        "CREATE USER `sf-operator`@`%` IDENTIFIED BY '{PASSWORD}'"
    ));
    let ran = tier.agent(&["grants", "--operator"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    server.sql(&ran.stdout);
    assert_eq!(tier.agent(&["run"]).code, 0);
    let dsn = tempfile::NamedTempFile::new().unwrap();
    let write = |user: &str| {
        let port = server.port;
        let text = format!("mysql://{user}:{PASSWORD}@127.0.0.1:{port}/shakenfist\n");
        std::fs::write(dsn.path(), text).unwrap();
    };
    write("sf-operator");
    desk_works(&server, &tier, dsn.path()).unwrap();

    let each = each(&server, "sf-operator");
    assert_eq!(each.len(), 8, "{each:?}");
    for (privilege, scope) in each {
        server.sql(&format!(
            "REVOKE {privilege} ON {scope} FROM `sf-operator`@`%`"
        ));
        desk_works(&server, &tier, dsn.path()).expect_err(&format!("without {privilege} {scope}"));
        server.sql(&format!(
            "GRANT {privilege} ON {scope} TO `sf-operator`@`%`"
        ));
    }
    desk_works(&server, &tier, dsn.path()).unwrap();

    // A network node's user is told whose DSN does it.
    let ran = tier.agent(&["grants", "--role", "network", "--user", "net"]);
    server.sql(&format!(
        "CREATE USER net@`%` IDENTIFIED BY '{PASSWORD}'; {}",
        ran.stdout
    ));
    write("net");
    let said = desk_works(&server, &tier, dsn.path()).unwrap_err();
    assert!(
        said.contains("SF-DB-GRANTS") && said.contains("sf-firstboot grants --operator"),
        "what helps is not said: {said}"
    );
    let place = format!("{}\n", dsn.path().display());
    assert!(said.contains(&place), "whose DSN is not said: {said}");
    // One or the other.
    for arguments in [
        &["grants"][..],
        &["grants", "--operator", "--role", "network"],
    ] {
        assert_eq!(tier.agent(arguments).code, 64);
    }
}

/// Does on the server what a remedy says, as it stands there.
pub(crate) fn paste(server: &Server, remedy: &str, agent: impl Fn(&[&str]) -> Ran) {
    if let Some((_, rest)) = remedy.split_once("CREATE DATABASE") {
        let (name, _) = rest.split_once(';').unwrap();
        server.sql(&format!("CREATE DATABASE{name}"));
    }
    let Some((_, command)) = remedy.split_once("`sf-firstboot ") else {
        let (_, statements) = remedy.split_once("On the server: ").expect(remedy);
        server.sql(statements);
        return;
    };
    let (command, _) = command.split_once('`').unwrap();
    let words: Vec<&str> = command
        .split(' ')
        .map(|word| word.trim_matches('\''))
        .collect();
    let ran = agent(&words);
    assert_eq!(ran.code, 0, "{command}: {}", ran.stderr);
    server.sql(&ran.stdout);
}

#[test]
fn what_is_lacking_is_granted_by_the_cards_words_and_nothing_more() {
    let server = Server::started();
    let agent = Node::new("hypervisor");
    let account = |user: &str| format!("`{user}`@`127.0.0.%`");
    let least = |user: &str| {
        server.sql(&format!(
            "CREATE USER {} IDENTIFIED BY '{PASSWORD}'",
            account(user)
        ));
        let role = ["grants", "--role", "hypervisor"];
        let whom = ["--user", user, "--host", "127.0.0.%"];
        let ran = agent.agent(&[&role[..], &whom].concat());
        server.sql(&ran.stdout);
    };
    let granted = |user: &str| {
        let text = server.sql(&format!("SHOW GRANTS FOR {}", account(user)));
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.replace(&format!("`{user}`"), "`USER`"))
            .collect();
        lines.sort();
        lines
    };
    least("least");
    for tables in ["none", "all"] {
        if tables == "all" {
            let tier = Node::new("database-tier");
            tier.metadata(server.port, "");
            assert_eq!(tier.agent(&["run"]).code, 0);
        }
        for (user, lack, said) in [
            (
                "some",
                "REVOKE UPDATE ON shakenfist.bootstrap_nodes FROM ACCOUNT; \
                 REVOKE DELETE ON shakenfist.cluster_series FROM ACCOUNT",
                "needs: UPDATE on bootstrap_nodes; DELETE on cluster_series",
            ),
            (
                "one",
                "REVOKE ALL, GRANT OPTION FROM ACCOUNT; \
                 GRANT CREATE, SELECT ON shakenfist.bootstrap_nodes TO ACCOUNT; \
                 REVOKE CREATE ON shakenfist.bootstrap_nodes FROM ACCOUNT",
                "needs: SELECT on bootstrap_claims, bootstrap_operations, cluster_config and cluster_series; \
                 INSERT on bootstrap_nodes and cluster_series; UPDATE on bootstrap_nodes; \
                 DELETE on bootstrap_claims and cluster_series",
            ),
        ] {
            let name = format!("{user}-{tables}");
            least(&name);
            server.sql(&lack.replace("ACCOUNT", &account(&name)));
            let node = Node::new("hypervisor");
            node.metadata(server.port, "");
            node.edit("mysql://sf:", &format!("mysql://{name}:"));
            let ran = node.agent(&["check", "--json"]);
            let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            let finding = &report["findings"][0];
            assert_eq!(finding["code"], "SF-DB-GRANTS", "{}", ran.stdout);
            let what = finding["what"].as_str().unwrap();
            assert!(what.ends_with(said), "{what}");
            assert_ne!(granted(&name), granted("least"), "{name}");
            paste(&server, finding["remedy"].as_str().unwrap(), |words| {
                node.agent(words)
            });
            assert_eq!(granted(&name), granted("least"), "{name}");
        }
    }
}
