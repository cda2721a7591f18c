//! Sources and references that are wrong, and what is said about them.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn broken_sources_stop_and_are_named() {
    let toml = "/etc/sf/metadata.toml";
    let drop_in = "/etc/sf/metadata.d/10-a.toml";
    let mut shown = String::new();
    let link = Machine::new();
    fs::create_dir_all(link.path("/etc/sf")).unwrap();
    symlink("/nowhere/metadata.toml", link.path(toml)).unwrap();
    let folder = Machine::new().file("/etc/sf/metadata.toml/x", "");
    let not_a_folder = Machine::new()
        .file("/etc/sf/metadata.d", "")
        .file(toml, GOOD);
    let fifo = Machine::new();
    crate::testing::fifo(&fifo.path(toml));
    for machine in [
        Machine::new().file(toml, ""),
        Machine::new().file(toml, b"schema = 1\n[node]\nname = \"\xff\xfe\"\n"),
        Machine::new().file(toml, vec![b'#'; 1024 * 1024 + 1]),
        link,
        folder,
        not_a_folder,
        fifo,
        Machine::new()
            .file(toml, GOOD)
            .file(drop_in, "schema = 1\n[node]\nname = hv1\n"),
        Machine::new().file(toml, GOOD).file(drop_in, "[node]\n"),
        Machine::new()
            .file(toml, GOOD)
            .file(drop_in, "schema = 1\n[nodes]\n"),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.metadata", b"\xff"),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.node.name", b"\xff"),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.node.name", "Hv1.example.com"),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.node.nmae", "hv1.example.com"),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.node.mesh", "10.0.0.9"),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.metadata.toml", GOOD),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.Metadata", GOOD),
        Machine::new()
            .file(toml, GOOD)
            .credential("sf.metadata_ulr", "https://h/"),
        Machine::new().file(toml, &GOOD[..GOOD.find("[config]").unwrap()]),
    ] {
        shown.push_str(&machine.failure());
        shown.push('\n');
    }
    insta::assert_snapshot!(shown, @r#"
    SF-META-SYNTAX the document is empty | /etc/sf/metadata.toml | its first line is `schema = 1`
    SF-META-UNREADABLE /etc/sf/metadata.toml is not UTF-8 text: the first byte that is wrong is in line 3 | /etc/sf/metadata.toml | save it as UTF-8, without compression or encryption
    SF-META-UNREADABLE /etc/sf/metadata.toml is larger than 1 MiB, which no metadata is | /etc/sf/metadata.toml | check that it is the file that was meant
    SF-META-UNREADABLE /etc/sf/metadata.toml is a link to a file that does not exist | /etc/sf/metadata.toml | mend or remove the link: ls -l /etc/sf/metadata.toml
    SF-META-UNREADABLE /etc/sf/metadata.toml is a folder, not a file | /etc/sf/metadata.toml | put a file in its place
    SF-META-UNREADABLE /etc/sf/metadata.d cannot be read: Not a directory (os error 20) | /etc/sf/metadata.d | it, or a folder on the way to it, is a file where a folder belongs: ls -ld /etc/sf/metadata.d
    SF-META-UNREADABLE /etc/sf/metadata.toml is not a regular file | /etc/sf/metadata.toml | replace it by one
    SF-META-SYNTAX not valid TOML: string values must be quoted, expected literal string | /etc/sf/metadata.d/10-a.toml:3 | a string stands in double quotes; one field, one line
    SF-META-SCHEMA schema: missing key "schema" | /etc/sf/metadata.d/10-a.toml | the first line is `schema = 1`
    SF-META-UNKNOWN-KEY nodes: unknown key "nodes" | /etc/sf/metadata.d/10-a.toml:2 | did you mean "node"?
    SF-META-UNREADABLE credential sf.metadata is not UTF-8 text: the first byte that is wrong is in line 1 | credential sf.metadata | save it as UTF-8, without compression or encryption
    SF-META-UNREADABLE credential sf.node.name is not UTF-8 text: the first byte that is wrong is in line 1 | credential sf.node.name | save it as UTF-8, without compression or encryption
    SF-META-INVALID node.name: "Hv1.example.com" has upper-case letters | credential sf.node.name | write "hv1.example.com"
    SF-META-UNKNOWN-KEY the credential sf.node.nmae is neither a metadata field nor referred to by one | credential sf.node.nmae | did you mean sf.node.name?
    SF-META-UNKNOWN-KEY the credential sf.node.mesh is neither a metadata field nor referred to by one | credential sf.node.mesh | node.mesh is a table: give one credential for each of its fields, such as sf.node.mesh.address
    SF-META-UNKNOWN-KEY the credential sf.metadata.toml is neither a metadata field nor referred to by one | credential sf.metadata.toml | did you mean sf.metadata?
    SF-META-UNKNOWN-KEY the credential sf.Metadata is neither a metadata field nor referred to by one | credential sf.Metadata | did you mean sf.metadata?
    SF-META-UNKNOWN-KEY the credential sf.metadata_ulr is neither a metadata field nor referred to by one | credential sf.metadata_ulr | did you mean sf.metadata_url?
    SF-META-REQUIRED config.ETCD_HOST: missing: a node of role hypervisor cannot do without it | node metadata | add under [config]: ETCD_HOST = "10.0.0.1"
    "#);
}

#[test]
fn a_file_that_may_not_be_read_says_so() {
    let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let failure = read::unreadable("/etc/sf/metadata.toml", &error);
    assert_eq!(
        Machine::new().line(&failure),
        "SF-META-UNREADABLE /etc/sf/metadata.toml cannot be read: permission denied | /etc/sf/metadata.toml | run as root, or allow this user to read it: ls -ld /etc/sf/metadata.toml"
    );
}

#[test]
fn files_of_the_command_line_must_be_there_once() {
    let machine = Machine::new().file(FILE, GOOD);
    let missing = machine.path("/no.toml");
    let twice = machine.path(FILE);
    for (files, code, wanted) in [
        (vec![missing], "SF-META-UNREADABLE", "no such file"),
        (vec![twice.clone(), twice], "SF-USAGE", "given twice"),
    ] {
        let rejected = load(&collect(&machine.places().command_line(files))).unwrap_err();
        assert_eq!(rejected.failures[0].code.id, code);
        assert!(
            rejected.failures[0].what.contains(wanted),
            "{}",
            rejected.failures[0].what
        );
    }
}

#[test]
fn references_lead_to_credentials_and_files_or_say_where_they_do_not() {
    let with = |reference: &str| {
        let text = GOOD.replace(
            "\"mysql://sf:S3CR3T@db1.example.com:3306/shakenfist\"",
            reference,
        );
        Machine::new().file(FILE, text)
    };
    let dsn = "mysql://sf:S3CR3T@db1/sf\n";
    for machine in [
        with("{ credential = \"my-dsn\" }").credential("my-dsn", dsn),
        with("{ credential = \"sf.my-dsn\" }").credential("sf.my-dsn", dsn),
        // As an editor of Windows saves it.
        with("{ credential = \"my-dsn\" }")
            .credential("my-dsn", format!("\u{feff}{}\r\n", dsn.trim())),
        with("{ file = \"/run/keys/dsn\" }").file("/run/keys/dsn", dsn),
    ] {
        let loaded = machine.load().unwrap();
        assert_eq!(
            loaded.metadata.database.dsn.password().unwrap().expose(),
            "S3CR3T"
        );
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
    let mut shown = String::new();
    for machine in [
        with("{ credential = \"my-dsn\" }"),
        with("{ credential = \"my-dsn\" }")
            .credential("my-dns", dsn)
            .credential("other", ""),
        with("{ credential = \"my-dsn\" }").credential("my-dsn", "\n"),
        with("{ credential = \"my-dsn\" }").credential("my-dsn", b"\xff"),
        with("{ credential = \"../my-dsn\" }"),
        with("{ file = \"/run/keys/dsn\" }"),
        with("{ file = \"keys/dsn\" }"),
        with("{ file = \"/run/keys\" }").file("/run/keys/x", ""),
        with("{ file = \"/run/keys/dsn\" }").file("/run/keys/dsn", "S3CR3T"),
    ] {
        shown.push_str(&machine.failure());
        shown.push('\n');
    }
    assert!(!shown.contains("S3CR3T"));
    insta::assert_snapshot!(shown, @r#"
    SF-META-REFERENCE database.dsn: refers to the credential my-dsn, which is not in TMP/credentials | /etc/sf/metadata.toml:9 | give the node a credential my-dsn (SMBIOS type 11, fw_cfg, ESP or kernel command line); there are none at all
    SF-META-REFERENCE database.dsn: refers to the credential my-dsn, which is not in TMP/credentials | /etc/sf/metadata.toml:9 | give the node a credential my-dsn (SMBIOS type 11, fw_cfg, ESP or kernel command line), or correct the name; there are: my-dns, other
    SF-META-REFERENCE database.dsn: refers to the credential my-dsn, which is empty | /etc/sf/metadata.toml:9 | put the secret into it
    SF-META-REFERENCE database.dsn: credential my-dsn is not UTF-8 text: the first byte that is wrong is in line 1 | /etc/sf/metadata.toml:9 | save it as UTF-8, without compression or encryption
    SF-META-REFERENCE database.dsn: "../my-dsn" is not a credential's name | /etc/sf/metadata.toml:9 | a credential's name has no slash; for a path write { file = "/path" }
    SF-META-REFERENCE database.dsn: refers to the file /run/keys/dsn, which does not exist on this machine | /etc/sf/metadata.toml:9 | put the secret there, readable for root alone: install -m 0600 SECRET /run/keys/dsn
    SF-META-REFERENCE database.dsn: refers to the file keys/dsn, which is not an absolute path | /etc/sf/metadata.toml:9 | write the path from the root, such as { file = "/run/keys/sf" }
    SF-META-REFERENCE database.dsn: /run/keys is a folder, not a file | /etc/sf/metadata.toml:9 | put a file in its place
    SF-META-INVALID database.dsn: file "/run/keys/dsn": the DSN does not start with mysql:// (MariaDB's scheme is mysql too); write it as mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?ssl-mode=…] | /etc/sf/metadata.toml:9 | Correct the value; `sf-firstboot explain FIELD` shows what the field takes and where the value came from.
    "#);
    let desk = with("{ credential = \"my-dsn\" }");
    let collected = collect(&Places::under(desk.path("/")));
    insta::assert_snapshot!(desk.line(&load(&collected).unwrap_err().failures[0]), @r#"SF-META-REFERENCE database.dsn: refers to the credential my-dsn, but systemd gave this process no credentials | /etc/sf/metadata.toml:9 | run it as the unit sf-firstboot.service, or write the secret itself or { file = "/path" } to try a file at your desk"#);
}

#[test]
fn several_mistakes_are_one_card_with_all_of_them() {
    let machine = Machine::new()
        .file(
            FILE,
            "schema = 1\n[node]\nnmae = \"S3CR3T\"\n[secrets]\nsystem_key = \"S3CR3T\"\n",
        )
        .credential("sf.database.dsn", "mysql://S3CR3T");
    let rejected = machine.load().unwrap_err();
    insta::assert_snapshot!(machine.line(&rejected.summary()), @r#"SF-META-INVALID 10 mistakes in the node metadata: credential sf.database.dsn: database.dsn: the DSN names no user; write it as mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?ssl-mode=…]: /etc/sf/metadata.toml:3: node.nmae: unknown key "nmae" (did you mean "name"?): /etc/sf/metadata.toml:5: secrets.system_key: is 6 bytes long; use 8 or more (make one with `openssl rand -hex 24`): node metadata: node.name: missing: a node of role hypervisor cannot do without it (add under [node]: name = "hv1.example.com"): node metadata: config.ETCD_HOST: missing: a node of role hypervisor cannot do without it (add under [config]: ETCD_HOST = "10.0.0.1"): node metadata: node.mesh.address: missing: a node of role hypervisor cannot do without it (add under [node]: mesh = { address = "10.0.0.11", interface = "eth1" }): node metadata: node.mesh.interface: missing: a node of role hypervisor cannot do without it (add under [node]: mesh = { address = "10.0.0.11", interface = "eth1" }): node metadata: node.egress.address: missing: a node of role hypervisor cannot do without it (add under [node]: egress = { address = "192.0.2.11", interface = "eth0" }): node metadata: node.egress.interface: missing: a node of role hypervisor cannot do without it (add under [node]: egress = { address = "192.0.2.11", interface = "eth0" }): node metadata: cluster.network_node: missing: a node of role hypervisor cannot do without it (add under [cluster]: network_node = "10.0.0.2") |  | Correct them all; each line says where it is and what to write."#);
    insta::assert_snapshot!(rejected.frames, @r#"
    error: credential sf.database.dsn: database.dsn: the DSN names no user; write it as mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?ssl-mode=…]

    error: node.nmae: unknown key "nmae"
     --> /etc/sf/metadata.toml:3:1
      |
    3 | nmae =*********
      | ^^^^
      |
      = help: did you mean "name"?

    error: secrets.system_key: is 6 bytes long; use 8 or more
     --> /etc/sf/metadata.toml:5:14
      |
    5 | system_key =*********
      |              ^^^^^^^^
      |
      = help: make one with `openssl rand -hex 24`

    error: node metadata: node.name: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [node]: name = "hv1.example.com"

    error: node metadata: config.ETCD_HOST: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [config]: ETCD_HOST = "10.0.0.1"

    error: node metadata: node.mesh.address: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [node]: mesh = { address = "10.0.0.11", interface = "eth1" }

    error: node metadata: node.mesh.interface: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [node]: mesh = { address = "10.0.0.11", interface = "eth1" }

    error: node metadata: node.egress.address: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [node]: egress = { address = "192.0.2.11", interface = "eth0" }

    error: node metadata: node.egress.interface: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [node]: egress = { address = "192.0.2.11", interface = "eth0" }

    error: node metadata: cluster.network_node: missing: a node of role hypervisor cannot do without it
     |
     = help: add under [cluster]: network_node = "10.0.0.2"
    "#);
    let all = format!(
        "{rejected:?}{}",
        serde_json::to_string(&rejected.failures).unwrap()
    );
    assert!(!all.contains("S3CR3T"), "{all}");
}

#[test]
fn a_source_that_cannot_be_read_hides_what_may_be_in_it() {
    let machine = Machine::new()
        .file(FILE, "schema = 1\n[node]\nname = \"hv1.example.com\"\n")
        .credential("sf.metadata", b"\xff");
    assert!(
        machine
            .failure()
            .starts_with("SF-META-UNREADABLE credential sf.metadata")
    );
}

#[test]
fn a_credential_that_cannot_be_read_is_looked_at_where_it_is() {
    let machine = Machine::new()
        .file(FILE, GOOD)
        .credential("sf.key", "x")
        .credential("sf.metadata", "x");
    let folder = machine.places().credentials.unwrap().folder().to_owned();
    for name in ["sf.key", "sf.metadata"] {
        let path = folder.join(name);
        fs::remove_file(&path).unwrap();
        symlink("/nowhere", &path).unwrap();
        let failure = machine
            .places()
            .credentials
            .unwrap()
            .text(name, &format!("credential {name}"))
            .err()
            .unwrap();
        assert_eq!(
            failure.remedy_text(),
            format!("mend or remove the link: ls -l {}", path.display())
        );
        // A loop of links cannot be read at all.
        fs::remove_file(&path).unwrap();
        symlink(name, &path).unwrap();
        let failure = machine
            .places()
            .credentials
            .unwrap()
            .text(name, &format!("credential {name}"))
            .err()
            .unwrap();
        assert!(
            failure
                .remedy_text()
                .contains(&format!("(cat {})", path.display())),
            "{}",
            failure.remedy_text()
        );
    }
}
