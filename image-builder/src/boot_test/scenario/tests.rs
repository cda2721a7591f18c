//! Reading scenarios: what is accepted, and every kind of problem in one run.

use super::*;

const GOOD: &str = r#"
name = "x"
summary = "It works"
[infrastructure]
mariadb = {}
letters = {}
[[vm]]
name = "db1"
profile = "database-tier"
forward = ["13000"]
metadata_by = "esp"
metadata = '''
schema = 1
database.dsn = "mysql://sf:{canary.database_password_encoded}@{mariadb.host}:{mariadb.port}/shakenfist"
pki = { ca = { credential = "ca" } }
'''
[vm.credentials]
"sf.key" = "{canary.system_key}"
"sf.other" = "{letters.url}"
[vm.credentials_by]
"sf.other" = "fw-cfg"
[[vm]]
name = "hv1"
image = "x.raw"
memory = "512M"
disk = "20G"
tamper = { file = "/usr/bin/x" }
healthy = false
[[step]]
start = "mariadb"
[[step]]
boot = "db1"
[[step]]
request = "POST /auth"
vm = "db1"
status = 200
body = '{"key": "{canary.system_key}"}'
capture = { token = "/access_token" }
[[step]]
request = "GET /nodes"
vm = "db1"
status = 200
headers = { Authorization = "Bearer {capture.token}" }
within = "2m"
[[step]]
letter = '{"state": "ready"}'
[[step]]
power_off = "db1"
[[step]]
search_secrets = ["db1"]
[[step.allow]]
place = "disk:/x"
reason = "because"
"#;

#[test]
fn a_good_scenario_is_read() {
    let scenario = Scenario::parse("x.toml", GOOD).unwrap();
    assert_eq!(scenario.mariadb, Some(Mariadb { port: None }));
    assert!(!scenario.etcd);
    let [db1, hv1] = &scenario.machines[..] else {
        panic!("{scenario:?}")
    };
    assert_eq!(db1.image, ImageChoice::Profile("database-tier".into()));
    assert_eq!(db1.forward, [13_000]);
    assert_eq!(
        (db1.memory, db1.disk, db1.cpus, db1.healthy),
        (2048, 12, 2, true)
    );
    let credentials = db1.credentials.iter();
    let credentials: Vec<_> = credentials.map(|one| (one.name.as_str(), one.by)).collect();
    assert_eq!(
        credentials,
        [("sf.key", Channel::Smbios), ("sf.other", Channel::FwCfg)]
    );
    assert_eq!((db1.metadata_by, db1.is_sealed()), (Delivery::Esp, true));
    assert!(scenario.letters && !hv1.is_sealed());
    assert_eq!((hv1.memory, hv1.disk, hv1.healthy), (512, 20, false));
    assert_eq!(hv1.tamper, Some(Tamper::File("/usr/bin/x".into())));
    assert_eq!(
        (db1.address, hv1.address),
        ([10, 0, 2, 15].into(), [10, 0, 2, 16].into())
    );
    let titles: Vec<&str> = scenario
        .steps
        .iter()
        .map(|step| step.title.as_str())
        .collect();
    assert_eq!(
        titles[2..4],
        ["db1: POST /auth answers 200", "db1: GET /nodes answers 200"]
    );
    assert_eq!(scenario.steps[3].within, Some(Duration::from_mins(2)));
    assert!(scenario.searches("db1") && !scenario.searches("hv1"));
}

#[test]
fn every_problem_is_found_in_one_run() {
    let text = r#"
name = "x"
sumary = "typing error"
[infrastructure]
mariadb = { port = 70000 }
[[vm]]
name = "DB"
profile = "x"
[[vm]]
name = "a"
profile = "x"
image = "y"
address = "10.0.3.1"
tamper = { file = "/etc/x" }
memory = "lots"
metadata = "{mariadb.prot}"
metadata_by = "post"
credentials = { "sf.pki.libvirt_spice.certificate" = "x", a = "y" }
credentials_by = { "sf.pki.libvirt_spice.certificate" = "fw-cfg", a = "hand", b = "esp" }
[[vm]]
name = "a"
[[step]]
boot = "b"
[[step]]
agent = "a"
outcome = "good"
[[step]]
boot = "a"
stop = "etcd"
[[step]]
request = "nodes"
vm = "a"
status = 200
body = "{"
[[step]]
unchanged_since = "never"
[[step]]
stop = "etcd"
within = "soon"
[[step]]
letter = "{"
[[step]]
title = "nothing"
"#;
    let invalid = Scenario::parse("x.toml", text).unwrap_err();
    let shown: Vec<String> = invalid.problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    x.toml: unknown key "sumary" (did you mean "summary"?)
    x.toml: infrastructure.mariadb.port: must be 1 to 65535
    x.toml: vm[0].name: not a name: 1 to 20 lower-case letters, digits and "-"
    x.toml: vm[1].image: a machine has a profile or an image, not both
    x.toml: vm[1].address: not an address from 10.0.2.4 to 10.0.2.255, the machines' network
    x.toml: vm[1].tamper.file: not a file below /usr, the part that is verified
    x.toml: vm[1].memory: not a size: a number with M or G, such as "2M"
    x.toml: vm[1].metadata: nothing is known as {mariadb.prot} (did you mean {mariadb.port}?)
    x.toml: vm[1].metadata_by: not a way for metadata to get to a machine: credential, fw-cfg, esp, config-drive, url
    x.toml: vm[1].credentials_by.sf.pki.libvirt_spice.certificate: the name sf.pki.libvirt_spice.certificate is too long for fw_cfg, which takes 28 characters
    x.toml: vm[1].credentials_by.a: not a way for a credential to get to a machine: smbios, fw-cfg, esp, esp-closed, uki, kernel-command-line
    x.toml: vm[1].credentials_by.b: no credential of this machine has this name
    x.toml: vm[2].profile: missing key "profile" (vm[2].profile takes a profile's name; "image" takes a file instead)
    x.toml: vm[2].name: another machine has this name
    x.toml: step[0].boot: no machine has this name (did you mean "a"?)
    x.toml: step[1].agent: this machine is off at this point
    x.toml: step[2]: a step has one verb, not stop and boot (verbs: start, stop, boot, power_off, agent, ready, request, sql, snapshot, unchanged_since, run, console, letter, search_secrets)
    x.toml: step[3].request: not a request: a method and a path, "GET /nodes"
    x.toml: step[3].vm: this machine is off at this point
    x.toml: step[3].body: not JSON: EOF while parsing an object at line 1 column 1
    x.toml: step[4].unchanged_since: no step before this one takes this snapshot
    x.toml: step[5].stop: not in [infrastructure]
    x.toml: step[5].within: not a time: such as "90s" or "3m", at most an hour
    x.toml: step[6].letter: needs a letter box in [infrastructure] (add `letters = {}` there)
    x.toml: step[6].letter: not JSON: EOF while parsing an object at line 1 column 1
    x.toml: step[7]: a step needs a verb (verbs: start, stop, boot, power_off, agent, ready, request, sql, snapshot, unchanged_since, run, console, letter, search_secrets)
    x.toml: missing key "summary" (summary takes a string)
    "#);
    let frames = invalid.to_string();
    assert!(frames.contains("x.toml:3:1"), "{frames}");
    assert!(
        frames.ends_with(&format!("the scenario has {} problems", shown.len())),
        "{frames}"
    );
}

#[test]
fn order_matters_to_machines() {
    let step = |steps: &str| {
        let head = "name = \"x\"\nsummary = \"y\"\n[[vm]]\nname = \"a\"\nimage = \"i\"";
        let tables: Vec<String> = steps
            .split(' ')
            .map(|step| format!("[[step]]\n{step}\n"))
            .collect();
        let text = format!("{head}\n{}", tables.join("\n"));
        Scenario::parse("x.toml", &text)
            .map_err(|invalid| invalid.problems[0].message.clone())
            .map(|_| ())
    };
    assert_eq!(step("boot=\"a\" power_off=\"a\" boot=\"a\""), Ok(()));
    assert_eq!(
        step("boot=\"a\" boot=\"a\""),
        Err("this machine is on already".into())
    );
    assert_eq!(
        step("ready=\"a\""),
        Err("this machine is off at this point".into())
    );
    assert_eq!(
        step("boot=\"a\" search_secrets=[\"a\"]"),
        Err("this machine is on: its disk can be read after power_off".into())
    );
    assert_eq!(
        step("sql=\"x\""),
        Err("needs MariaDB in [infrastructure]".into())
    );
}

#[test]
fn the_projects_own_scenarios_are_right() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/boot");
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = fs_err::read_to_string(&path).unwrap();
            let scenario = Scenario::parse(&path.to_string_lossy(), &text)
                .unwrap_or_else(|invalid| panic!("{invalid}"));
            assert_eq!(path.file_stem().unwrap().to_string_lossy(), scenario.name);
            names.push(scenario.name);
        }
    }
    for name in ["first-boot", "database-down", "too-new", "tampered"] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} is not in {names:?}"
        );
    }
}
