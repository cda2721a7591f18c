use super::*;

const RELEASE: &str = r#"
schema = 1
summary = "R"
version = "0.8.0rc4"
series = "0.8"
predecessor = "0.7"
packages = ["python3"]
cluster_config = ["ZONE"]
[absent_daemons]
eventlog = "merged"
[base]
distribution = "debian"
release = "trixie"
glibc = "2.41"
python = "3.13"
[python]
install = "hash-lock"
lock = "requirements.lock"
prefix = "/usr/lib/shakenfist"
[[daemon]]
unit = "sf-database"
description = "D"
exec = "/x"
always = true
roles = ["database-tier"]
[daemon.service]
Environment = ["A=1", "B=2"]
LimitNOFILE = 10
[[daemon]]
unit = "sf-api"
description = "D"
exec = "/y"
provides = ["api"]
[[daemon.port]]
number = 13000
purpose = "REST"
[daemon.readiness]
port = 13000
path = "/readyz"
status = 200
[[setting]]
key = "NODE_NAME"
from = "node.name"
required = true
[[setting]]
key = "PORT"
constant = 13005
[[setting]]
key = "NODE_IS_HYPERVISOR"
true_on = ["hypervisor"]
[schema_of_the_cluster]
made_by = "command"
command = ["/x/sf-ctl", "ensure"]
[schema_of_the_cluster.expected]
nodes = 5
[hooks]
system_key = ["/x/set"]
"#;

fn problems(text: &str) -> String {
    let problems = read("r", "releases/r/release.toml", text).expect_err("problems");
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n").replace("releases/r/release.toml: ", "")
}

#[test]
fn a_whole_descriptor_reads() {
    let release = read("r", "x", RELEASE).expect("reads");
    let names = |role, asked: &[&str]| -> Vec<String> {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        release
            .units_for(role, &asked)
            .iter()
            .map(|daemon| daemon.unit.clone())
            .collect()
    };
    assert_eq!(
        names(Role::DatabaseTier, &["api"]),
        ["sf-database", "sf-api"]
    );
    assert_eq!(names(Role::Hypervisor, &["api"]), ["sf-api"]);
    assert_eq!(names(Role::Hypervisor, &[]), Vec::<String>::new());
    let service = &release.daemons[0].service;
    let want = [
        ("Environment", "A=1"),
        ("Environment", "B=2"),
        ("LimitNOFILE", "10"),
    ];
    assert_eq!(
        service
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect::<Vec<_>>(),
        want
    );
    assert_eq!(
        release.settings[1].value,
        SettingValue::Constant("13005".into())
    );
    assert_eq!(
        release.daemon_names().collect::<Vec<_>>(),
        ["api", "eventlog"]
    );
    let Schema::Command { expected, .. } = &release.schema else {
        panic!("a command makes it")
    };
    assert_eq!(expected["nodes"], 5);
    let json = serde_json::to_string(&release).expect("serializes");
    assert_eq!(
        serde_json::from_str::<Release>(&json).expect("reads"),
        release
    );
}

#[test]
fn an_empty_descriptor_says_what_it_lacks() {
    insta::assert_snapshot!(problems(""), @r#"
    missing key "schema" (schema takes 1, the version of this format)
    missing key "summary" (summary takes a string)
    missing key "series" (series takes a string)
    missing key "base" (base takes a table)
    missing key "python" (python takes a table)
    missing key "daemon" (daemon takes at least one [[daemon]] table)
    missing key "schema_of_the_cluster" (schema_of_the_cluster takes a table)
    "#);
}

/// Each change of a right descriptor, and what is said about it.
#[test]
fn every_mistake_is_a_problem() {
    let cases = [
        ("series = \"0.8\"", "series = \"0.7\""),
        ("predecessor = \"0.7\"", "predecessor = \"0.8\""),
        ("version = \"0.8.0rc4\"", "version = \"new\""),
        (
            "cluster_config = [\"ZONE\"]",
            "cluster_config = [\"NODE_NAME\"]",
        ),
        ("cluster_config = [\"ZONE\"]", "cluster_config = [\"zone\"]"),
        ("install = \"hash-lock\"", "install = \"pip\""),
        ("lock = \"requirements.lock\"", ""),
        ("unit = \"sf-api\"", "unit = \"sf-database\""),
        ("unit = \"sf-api\"", "unit = \"sf-api.service\""),
        ("provides = [\"api\"]", "provides = [\"api\", \"api\"]"),
        ("provides = [\"api\"]", "provides = [\"eventlog\"]"),
        ("roles = [\"database-tier\"]", "roles = [\"databse-tier\"]"),
        ("number = 13000", "number = 130000"),
        ("status = 200", ""),
        ("key = \"PORT\"", "key = \"NODE_NAME\""),
        ("key = \"PORT\"", "key = \"SHAKENFIST_PORT\""),
        ("from = \"node.name\"", "from = \"node.nmae\""),
        ("constant = 13005", "constant = \"a\\\"b\""),
        ("constant = 13005", "constant = 1\nfrom = \"node.name\""),
        ("made_by = \"command\"", "made_by = \"nobody\""),
        ("command = [\"/x/sf-ctl\", \"ensure\"]", ""),
        ("[hooks]", "[hooks]\ncolour = 1"),
    ];
    let mut shown = String::new();
    for (from, to) in cases {
        assert!(RELEASE.contains(from), "{from}");
        let found = problems(&RELEASE.replacen(from, to, 1));
        shown.push_str(&[&to.replace('\n', " | "), "\n    ", &found, "\n"].concat());
    }
    insta::assert_snapshot!(shown, @r#"
    series = "0.7"
        version 0.8.0rc4 belongs to series 0.8
    predecessor: 0.7 does not come before 0.7
    predecessor = "0.8"
        predecessor: 0.8 does not come before 0.8
    version = "new"
        "new" is not a PEP 440 version: expected version to start with a number, but no leading ASCII digits were found
    cluster_config = ["NODE_NAME"]
        cluster_config: NODE_NAME is each node's own and would be overridden on all of them (leave it out)
    cluster_config = ["zone"]
        cluster_config: "zone" is not a key (upper-case letters, digits and underscores, without the SHAKENFIST_ prefix)
    install = "pip"
        python.install: "pip" is not a way to install (write "hash-lock" or "wheel")

        python.lock: missing key "lock" (python.lock takes the file with hashed requirements)
    unit = "sf-database"
        daemon[1].unit: the unit "sf-database" is there twice
    unit = "sf-api.service"
        daemon[1].unit: "sf-api.service" is not a unit's name (letters, digits, '-' and '_', without .service)
    provides = ["api", "api"]
        daemon[1].provides: the daemon "api" is there twice
    provides = ["eventlog"]
        absent_daemons: the daemon "eventlog" is there twice
    roles = ["databse-tier"]
        daemon[0].roles: "databse-tier" is not a role; roles are hypervisor, network, database-tier and single-node
    number = 130000
        daemon[1].port[0].number: 130000 is not between 1 and 65535

        daemon[1].readiness.status: missing key "status" (daemon[1].readiness.status takes a whole number)
    key = "NODE_NAME"
        setting[1].key: the setting "NODE_NAME" is there twice
    key = "SHAKENFIST_PORT"
        setting[1].key: "SHAKENFIST_PORT" is not a key (upper-case letters, digits and underscores, without the SHAKENFIST_ prefix)
    from = "node.nmae"
        setting[0].from: there is no metadata field "node.nmae" (did you mean "node.name"?)
    constant = "a\"b"
        setting[1].constant: a value may hold no quotes, backslashes, dollars or line breaks
    constant = 1 | from = "node.name"
        setting[1]: a setting has exactly one of from, constant and true_on
    made_by = "nobody"
        schema_of_the_cluster.made_by: "nobody" does not make schemas (write "agent" or "command")

        schema_of_the_cluster.command: missing key "command" (schema_of_the_cluster.command takes the program and its arguments)
    [hooks] | colour = 1
        hooks.colour: unknown key "colour" (known keys here: system_key)
    "#);
}
