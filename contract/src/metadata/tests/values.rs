//! One bad value at a time: what is said, and that nothing else is.

use super::*;
use crate::metadata::Class;

/// `GOOD` with one more line in a table, which replaces the field's own line.
fn with(table: &str, line: &str) -> String {
    let key = line.split(" =").next().unwrap();
    let kept: Vec<&str> = GOOD
        .lines()
        .filter(|other| !other.starts_with(&format!("{key} =")))
        .collect();
    let mut text = kept.join("\n") + "\n";
    let header = format!("[{table}]\n");
    let at = text.find(&header).unwrap_or_else(|| {
        text.push_str(&header);
        text.len() - header.len()
    });
    text.insert_str(at + header.len(), &format!("{line}\n"));
    text
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_rule_has_its_own_words() {
    let long = "x".repeat(64);
    let mut shown = String::new();
    for (table, line) in [
        ("node", "name = \"\""),
        ("node", "name = \"10.0.0.1\""),
        ("node", "name = \"Hv1.example.com\""),
        ("node", "name = \"Hv_1.example.com\""),
        ("node", "name = \"hv_1.example.com\""),
        ("node", "name = \"hv1..example.com\""),
        ("node", "name = \"-hv1.example.com\""),
        ("node", "name = \"hv1.example.com.\""),
        ("node", &format!("name = \"{long}.example.com\"")),
        (
            "node",
            "mesh = { address = \"10.0.0.999\", interface = \"eth0\" }",
        ),
        (
            "node",
            "mesh = { address = \"fe80::1\", interface = \"eth0\" }",
        ),
        (
            "node",
            "mesh = { address = \"10.0.0.1/24\", interface = \"eth0\" }",
        ),
        (
            "node",
            "mesh = { address = \"0.0.0.0\", interface = \"eth0\" }",
        ),
        (
            "node",
            "mesh = { address = \"10.0.0.1\", interface = \"enp129s0f0np0-ab\" }",
        ),
        (
            "node",
            "mesh = { address = \"10.0.0.1\", interface = \"eth0/1\" }",
        ),
        (
            "node",
            "mesh = { address = \"10.0.0.1\", interface = \"\" }",
        ),
        ("node", "reservations = { ram_gb = -1 }"),
        ("node", "reservations = { cpu = 1.5 }"),
        ("cluster", "zone = \"my zone\""),
        ("cluster", "network_node = \"net1\""),
        ("cluster", "database_nodes = [\"10.0.0.1\", \"db2\"]"),
        ("cluster", "database_nodes = [1]"),
        ("cluster", "floating_network = \"192.168.20.1/24\""),
        ("cluster", "floating_network = \"192.168.20.0\""),
        ("cluster", "floating_network = \"192.168.20.0/33\""),
        ("cluster", "floating_network = \"192.168.20.0/31\""),
        ("cluster", "max_hypervisor_mtu = 100000"),
        ("cluster", "hosts = { Db1 = \"10.0.0.1\" }"),
        ("cluster", "hosts = { db1 = \"x\" }"),
        ("cluster.config", "MAX_HYPERVISOR_MTU = 8950"),
        (
            "cluster.config",
            "AUTH_SECRET_SEED = \"canary-canary-canary-canary\"",
        ),
        ("cluster.config", "NODE_NAME = \"x\""),
        ("cluster.config", "HTTP_PROXY_SERVR = \"x\""),
        (
            "cluster.config",
            "HTTP_PROXY_SERVER = \"http://u:canary@p\"",
        ),
        (
            "cluster.config",
            "HTTP_PROXY_SERVER = \"http://u:can/ary@p:3128\"",
        ),
        (
            "cluster.config",
            "HTTP_PROXY_SERVER = \"u:canary@p.example.com:3128\"",
        ),
        ("database", "dsn = \"postgres://u:canary@h/d\""),
        ("database", "dsn = \"mysql://u:canary@x@h/d\""),
        ("database", "wait = \"5 minutes\""),
        ("database", "connect_timeout = \"10m\""),
        ("database", "connect_timeout = 10"),
        ("pki", "ca = \"canary\""),
        ("pki", "key = { credential = \"x\" }"),
        ("secrets", "auth_secret_seed = \"canary\""),
        (
            "secrets",
            "auth_secret_seed = \"canary-canary canary-canary\"",
        ),
        (
            "secrets",
            "auth_secret_seed = \"canary-canary-canary-canary=\"",
        ),
        ("secrets", "system_key = \"sfk_canary-canary\""),
        ("secrets", "system_key = \"canary\""),
        (
            "secrets",
            &format!("system_key = \"{}\"", "canary-".repeat(11)),
        ),
        ("secrets", "system_key_name = \"a b\""),
        ("config", "X = \"a\\\"b\""),
        ("config", "X = \"a\\nb\""),
        ("config", "X = \"a=b\""),
        ("config", "X = \" a\""),
        ("config", "x = \"a\""),
        ("config", "SHAKENFIST_X = \"a\""),
        ("config", "API_TOKEN = \"canary=\""),
        ("config", "NODE_MESH_IP = \"10.0.0.1\""),
        ("config", "STORAGE_PATH = \"/x\""),
        ("config", "NODE_IS_HYPERVISOR = true"),
        (
            "config",
            "AUTH_SECRET_SEED = \"canary-canary-canary-canary\"",
        ),
        ("bootstrap", "mode = \"always\""),
        ("report", "url = \"ftp://x\""),
        ("report", "url = \"https://u:canary@x/y\""),
        ("report", "url = \"https://u:can/ary@x/y\""),
        ("report", "url = \"https://u:can?ary@x/y\""),
        ("report", "url = \"https://h:99999/\""),
        ("report", "url = \"https://h:/\""),
        ("report", "url = \"https://[::1/\""),
        ("report", "url = \"https:///y\""),
        ("node", "name = \"mysql://u:can/ary@db1/x\""),
    ] {
        let found = problems(&with(table, line), Role::Hypervisor);
        // One mistake, one sentence; the others of GOOD still hold.
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        shown.push_str(found[0].strip_prefix("metadata.toml: ").unwrap());
        shown.push('\n');
    }
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!shown.contains("ary@"), "{shown}");
    insta::assert_snapshot!(shown, @r#"
    node.name: is empty
    node.name: "10.0.0.1" is an address, not a name (write the fully qualified name, such as "db1.example.com")
    node.name: "Hv1.example.com" has upper-case letters (write "hv1.example.com")
    node.name: "hv_1.example.com" holds '_' (a host name is made of letters, digits and hyphens, with dots between its parts (RFC 1123))
    node.name: "hv_1.example.com" holds '_' (a host name is made of letters, digits and hyphens, with dots between its parts (RFC 1123))
    node.name: "hv1..example.com" has an empty part (a host name is made of letters, digits and hyphens, with dots between its parts (RFC 1123))
    node.name: "-hv1.example.com" has a part that starts or ends with a hyphen: "-hv1" (a host name is made of letters, digits and hyphens, with dots between its parts (RFC 1123))
    node.name: "hv1.example.com." ends in a dot (write "hv1.example.com")
    node.name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.example.com" has a part of more than 63 characters (a host name is made of letters, digits and hyphens, with dots between its parts (RFC 1123))
    node.mesh.address: "10.0.0.999" is not an IPv4 address (write it as "10.0.0.1")
    node.mesh.address: "fe80::1" is an IPv6 address (Shaken Fist's nodes switch IPv6 off; give an IPv4 address)
    node.mesh.address: "10.0.0.1/24" is a network, not an address (write it as "10.0.0.1")
    node.mesh.address: "0.0.0.0" is not the address of one host (write it as "10.0.0.1")
    node.mesh.interface: "enp129s0f0np0-ab" is 16 bytes long; Linux allows 15 (`ip -brief link` on the node shows the names)
    node.mesh.interface: "eth0/1" holds '/', which no interface's name has (`ip -brief link` on the node shows the names)
    node.mesh.interface: "" is not an interface's name
    node.reservations.ram_gb: -1 is out of range: 0 to 1048576
    node.reservations.cpu: expected a whole number, found a number with a fraction (for example reservations = { cpu = 2 })
    cluster.zone: "my zone" is not one word (use 1 to 64 letters, digits, '.', '_' and '-')
    cluster.network_node: "net1" is not a name of [cluster.hosts] (write the address itself, or add it under [cluster.hosts]: "net1" = "10.0.0.1")
    cluster.database_nodes: "db2" is not a name of [cluster.hosts] (write the address itself, or add it under [cluster.hosts]: "db2" = "10.0.0.1")
    cluster.database_nodes: expected a list of IPv4 addresses or names of [cluster.hosts], found a list with something else in it (for example database_nodes = ["10.0.0.1"])
    cluster.floating_network: "192.168.20.1/24" is an address within a network (write "192.168.20.0/24")
    cluster.floating_network: "192.168.20.0" is not an IPv4 network (write it as "192.168.20.0/24")
    cluster.floating_network: "192.168.20.0/33" is not an IPv4 network (write it as "192.168.20.0/24")
    cluster.floating_network: "192.168.20.0/31" has a prefix of 31 bits (a floating network has 8 to 30)
    cluster.max_hypervisor_mtu: 100000 is out of range: 1280 to 65535
    cluster.hosts.Db1: "Db1" has upper-case letters (write "db1")
    cluster.hosts.db1: "x" is not an IPv4 address (write it as "10.0.0.1")
    cluster.config.MAX_HYPERVISOR_MTU: has a field of its own (set cluster.max_hypervisor_mtu instead)
    cluster.config.AUTH_SECRET_SEED: is a secret, which the cluster-wide table must not hold (the seed stands in secrets.auth_secret_seed; give a proxy without user and password)
    cluster.config.NODE_NAME: "NODE_NAME" may not be set cluster-wide in release 0.7 (allowed: CPU_OVERCOMMIT_RATIO, HTTP_PROXY_SERVER, RAM_OVERCOMMIT_RATIO; set others in [config] on each node)
    cluster.config.HTTP_PROXY_SERVR: "HTTP_PROXY_SERVR" may not be set cluster-wide in release 0.7 (did you mean "HTTP_PROXY_SERVER"?)
    cluster.config.HTTP_PROXY_SERVER: is a secret, which the cluster-wide table must not hold (the seed stands in secrets.auth_secret_seed; give a proxy without user and password)
    cluster.config.HTTP_PROXY_SERVER: is a secret, which the cluster-wide table must not hold (the seed stands in secrets.auth_secret_seed; give a proxy without user and password)
    cluster.config.HTTP_PROXY_SERVER: is a secret, which the cluster-wide table must not hold (the seed stands in secrets.auth_secret_seed; give a proxy without user and password)
    database.dsn: the DSN does not start with mysql:// (MariaDB's scheme is mysql too); write it as mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?ssl-mode=…]
    database.dsn: the user or the password has a character that must be percent-encoded: @ as %40, / as %2F, ? as %3F, # as %23
    database.wait: "5 minutes" is not a duration (write a whole number and ms, s, m or h, such as "30s")
    database.connect_timeout: "10m" is out of range: 1s to 5m
    database.connect_timeout: expected a duration, a string such as "30s" or "5m", found a whole number (for example connect_timeout = "10s")
    pki.ca: is not PEM text (it starts with -----BEGIN; give certificates, or a path that starts with '/')
    pki.key: is of no use without pki.certificate (give pki.certificate as well)
    secrets.auth_secret_seed: has 6 characters; 24 to 128 are taken (make one with `openssl rand -hex 32`)
    secrets.auth_secret_seed: holds a space or a character that is not ASCII (make one with `openssl rand -hex 32`)
    secrets.auth_secret_seed: holds '=', which this release's sf-ctl cannot read in /etc/sf/config (use a value without it; for a random one `openssl rand -hex 32`)
    secrets.system_key: starts with "sfk_", which the REST API refuses (make one with `openssl rand -hex 24`)
    secrets.system_key: is 6 bytes long; use 8 or more (make one with `openssl rand -hex 24`)
    secrets.system_key: is 77 bytes long; 72 are the most that can be checked (bcrypt) (make one with `openssl rand -hex 24`)
    secrets.system_key_name: "a b" is not one word (use 1 to 64 letters, digits, '.', '_' and '-')
    config.X: holds '"', which cannot stand in /etc/sf/config (systemd and sf-ctl unquote that file differently: use no quotes, backslashes or line breaks)
    config.X: holds '\n', which cannot stand in /etc/sf/config (systemd and sf-ctl unquote that file differently: use no quotes, backslashes or line breaks)
    config.X: holds '=', which this release's sf-ctl cannot read in /etc/sf/config (use a value without it; for a random one `openssl rand -hex 32`)
    config.X: starts or ends with a space (remove it: systemd and sf-ctl would disagree about it)
    config.x: "x" is not the name of a setting (names are made of A to Z, 0 to 9 and _)
    config.SHAKENFIST_X: "SHAKENFIST_X" has the prefix already (write X; the agent adds SHAKENFIST_)
    config.API_TOKEN: holds '=', which this release's sf-ctl cannot read in /etc/sf/config (use a value without it; for a random one `openssl rand -hex 32`)
    config.NODE_MESH_IP: is a setting that the agent makes itself (set node.mesh.address instead)
    config.STORAGE_PATH: is a setting that the agent makes itself (the image sets it to "/srv/shakenfist")
    config.NODE_IS_HYPERVISOR: is a setting that the agent makes itself (the image's role decides it)
    config.AUTH_SECRET_SEED: is a setting that the agent makes itself (set secrets.auth_secret_seed instead)
    bootstrap.mode: "always" is not a mode (write "auto", "require" or "wait")
    report.url: is not an http or https URL (write it as "https://ops.example.com/sf")
    report.url: carries a user or password, which would stand in logs (write it as "https://ops.example.com/sf")
    report.url: carries a user or password, which would stand in logs (write it as "https://ops.example.com/sf")
    report.url: carries a user or password, which would stand in logs (write it as "https://ops.example.com/sf")
    report.url: has a port that is no number from 1 to 65535 (write it as "https://ops.example.com/sf")
    report.url: is not a URL (write it as "https://ops.example.com/sf")
    report.url: has a port that is no number from 1 to 65535 (write it as "https://ops.example.com/sf")
    report.url: is not a URL (write it as "https://ops.example.com/sf")
    node.name: expected a host name, a string such as "db1.example.com"; what stands there is not shown, since it looks like a secret (look for a quote that is not closed, or not as it began)
    "#);
}

#[test]
fn values_at_the_edge_of_the_rules_are_taken() {
    for (table, line) in [
        ("node", "name = \"1.example.com\""),
        (
            "node",
            "mesh = { address = \"10.0.0.1\", interface = \"enp129s0f0np0.1\" }",
        ),
        ("cluster", "floating_network = \"10.0.0.0/8\""),
        ("cluster", "database_nodes = []"),
        ("database", "wait = \"0s\""),
        ("database", "wait = \"24h\""),
        ("secrets", "system_key = \"12345678\""),
        ("config", "EMPTY = \"\""),
        ("config", "SPACED = \"a b $x #y\""),
        (
            "cluster.config",
            "HTTP_PROXY_SERVER = \"http://proxy:3128\"",
        ),
    ] {
        assert_eq!(
            problems(&with(table, line), Role::Hypervisor),
            [""; 0],
            "{line}"
        );
    }
}

#[test]
fn an_equals_sign_is_refused_only_where_the_release_cannot_read_it() {
    let mut release = release();
    release.forbidden_in_config.clear();
    let merged = merge([file(&with("config", "X = \"a=b\""))]);
    let resolved = resolve(&merged);
    let target = Target {
        role: Role::Hypervisor,
        release: &release,
    };
    assert_eq!(check(&merged, &resolved, target).problems, []);
}

#[test]
fn what_is_unlikely_is_warned_about() {
    for (role, table, line, wanted) in [
        (Role::Hypervisor, "node", "name = \"hv1\"", "has no domain"),
        (
            Role::Hypervisor,
            "node",
            "mesh = { address = \"127.0.0.1\", interface = \"lo\" }",
            "loopback",
        ),
        (
            Role::DatabaseTier,
            "cluster",
            "zone = \"x\"",
            "secrets.system_key: is not set",
        ),
    ] {
        let (_, checked) = checked(&with(table, line), role);
        assert_eq!(checked.problems, [], "{line}");
        assert_eq!(checked.warnings.len(), 1, "{line}: {:?}", checked.warnings);
        let warning = &checked.warnings[0];
        assert_eq!(warning.class, Class::Unlikely);
        assert!(
            warning.problem.to_string().contains(wanted),
            "{}",
            warning.problem
        );
    }
}

#[test]
fn a_network_node_can_be_named_by_hosts_or_be_this_node() {
    for text in [
        with(
            "cluster",
            "network_node = \"net1\"\nhosts = { net1 = \"10.0.0.2\" }",
        ),
        with("cluster", "network_node = \"hv1.example.com\""),
    ] {
        assert_eq!(problems(&text, Role::Network), [""; 0]);
    }
}

#[test]
fn what_stands_under_a_key_that_can_be_none_is_not_shown() {
    let text = "schema = 1\n[config]\nsystem_ky = \"canary\"\nsystem-key = 'canary'\nOK = \"shown\"\n[cluster.config]\n\"authese@ed\" = \"canary\"\n[cluster.hosts]\nsystem_ky = \"canary\"\nDb1 = \"canary\"\ndb1 = \"10.0.0.1\"\n";
    let single = Fragment::single(
        Origin::new(Layer::FieldCredential, 0, "credential sf.config.token_"),
        "config.sytem_kye",
        "canary",
    );
    let merged = merge([file(text), single]);
    let explained = crate::metadata::explain::explain(&merged, None).unwrap();
    let mut shown = serde_json::json!(explained).to_string();
    for one in &explained {
        shown.push_str(&one.to_string());
    }
    assert!(!shown.contains("canary"), "{shown}");
    for part in [
        "config.system_ky = ******",
        "config.OK = \"shown\"",
        "cluster.hosts.db1 = \"10.0.0.1\"",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // What is wrong is the key, whatever stands there.
    for table in ["config", "cluster.config"] {
        let text = with(table, "auth_seed_ = \"canary\"");
        let found = problems(&text, Role::Hypervisor);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("is not the name of a setting"),
            "{found:?}"
        );
    }
}
