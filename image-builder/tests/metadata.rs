//! `sf-image metadata new | check | seal` as people call it, with real
//! systemd-creds and mtools. No secret comes out anywhere but in the artefacts
//! that are meant to hold it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;
use sf_command::{Cmd, Sink, Tool};

/// Part of every secret.
const CANARY: &str = "c4n4ry";

const NODE: &str = r#"schema = 1
[node]
name = "db1.example.com"
mesh = { address = "10.0.0.1", interface = "eth1" }
egress = { address = "192.0.2.1", interface = "eth0" }
[cluster]
network_node = "10.0.0.2"
[database]
dsn = "mysql://sf:c4n4ry%2Fdsn@db.example.com:3306/shakenfist" # c4n4ry in a comment
[secrets]
system_key = "c4n4ry\"key\\x"
auth_secret_seed = { credential = "sf.seed" }
[config]
ETCD_HOST = "etcd.example.com"
"#;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("tempdir"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path
    }

    /// Runs `sf-image metadata ARGS`, `-F` standing for this folder, and holds
    /// that no secret is on its streams.
    fn run(&self, args: &str) -> Ran {
        let (out, err) = (self.path(".out"), self.path(".err"));
        for path in [&out, &err] {
            let _ = fs::remove_file(path);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("root");
        let status = Cmd::path(env!("CARGO_BIN_EXE_sf-image"))
            .arg("metadata")
            .args(args.split_whitespace())
            .arg("--root")
            .arg(root)
            .cwd(self.0.path())
            .env("COLUMNS", "200")
            .stdout(Sink::File(out.clone()))
            .stderr(Sink::File(err.clone()))
            .spawn()
            .expect("starts")
            .wait()
            .expect("ends");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let ran = Ran {
            code: status.code().expect("no signal"),
            stdout: read(&out),
            stderr: read(&err),
        };
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(CANARY), "{args}\n{text}");
        }
        ran
    }

    fn json(&self, args: &str) -> (i32, Value) {
        let ran = self.run(args);
        let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| {
            panic!("{args}: {error}\n{}\n{}", ran.stdout, ran.stderr);
        });
        (ran.code, json)
    }

    /// Files below a folder that hold the canary, as it is or in base64.
    fn revealing(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        for path in files(&self.path(folder)) {
            let bytes = fs::read(&path).expect("read");
            let text = String::from_utf8_lossy(&bytes);
            let decoded: String = text
                .rsplit('=')
                .chain(text.split('='))
                .filter_map(|part| base64_text(part.trim()))
                .collect();
            if text.contains(CANARY) || decoded.contains(CANARY) || base64_in(&text) {
                let name = path.strip_prefix(self.path(folder)).expect("below");
                found.push(name.display().to_string());
            }
            let mode = fs::metadata(&path).expect("stat").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        found.sort();
        found
    }
}

fn base64_text(text: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// An SMBIOS string: `…=BASE64` with padding.
fn base64_in(text: &str) -> bool {
    text.split_once('=')
        .and_then(|(_, value)| base64_text(value.trim()))
        .is_some_and(|text| text.contains(CANARY))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("read") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// A file of a FAT image, read by mtools.
fn mcopy(image: &Path, name: &str) -> String {
    let output = Cmd::new(Tool::Mcopy)
        .arg("-i")
        .arg(image)
        .args([&format!("::{name}"), "-"])
        .run()
        .expect("mcopy");
    String::from_utf8(output.stdout).expect("text")
}

fn decrypt(path: &Path, name: &str, host_key: Option<&Path>) -> String {
    let mut cmd = Cmd::new(Tool::SystemdCreds)
        .args(["decrypt", &format!("--name={name}")])
        .arg(path)
        .arg("-");
    if let Some(key) = host_key {
        cmd = cmd.env("SYSTEMD_CREDENTIAL_SECRET", key);
    }
    String::from_utf8(cmd.run().expect("decrypts").stdout).expect("text")
}

#[test]
fn a_template_is_refused_until_it_is_filled_in() {
    let desk = Desk::new();
    let new = "new --profile database-tier --node db1.example.com --output node.toml";
    let ran = desk.run(new);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "node.toml\n"),
        "{}",
        ran.stderr
    );
    let path = desk.path("node.toml");
    let mode = fs::metadata(&path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = desk.run(new);
    assert_eq!(again.code, 64);
    assert!(
        again.stderr.contains("--force replaces it"),
        "{}",
        again.stderr
    );
    assert_eq!(desk.run(&format!("{new} --force")).code, 0);

    let unfilled = desk.run("check node.toml --profile database-tier");
    assert_eq!(unfilled.code, 78);
    assert_eq!(unfilled.stdout, "");
    for part in [
        "dsn: is still the template's \"<fill in>\"",
        "help: write a string, { credential = \"name\" } or { file = \"/path\" }",
        "--> node.toml:",
        "is not right for a node of role database-tier, release 0.7: 7 problems",
    ] {
        assert!(
            unfilled.stderr.contains(part),
            "{part}\n{}",
            unfilled.stderr
        );
    }
    let mut text = fs::read_to_string(&path).expect("read");
    for (key, value) in [
        ("mesh.address", "10.0.0.1"),
        ("mesh.interface", "eth1"),
        ("egress.address", "192.0.2.1"),
        ("egress.interface", "eth0"),
        ("network_node", "10.0.0.2"),
        ("dsn", "mysql://sf:c4n4rydsn@db.example.com/sf"),
        ("ETCD_HOST", "10.0.0.5"),
    ] {
        let line = format!("\n{key} = \"<fill in>\"");
        assert!(text.contains(&line), "{key}");
        text = text.replace(&line, &format!("\n{key} = \"{value}\""));
    }
    fs::write(&path, &text).expect("write");
    let filled = desk.run("check node.toml --profile database-tier");
    assert_eq!(filled.code, 0, "{}", filled.stderr);
    assert!(
        filled
            .stdout
            .starts_with("node.toml is right for a node of role database-tier, release 0.7\n"),
        "{}",
        filled.stdout
    );
    assert!(
        filled.stdout.contains("warning: SF-META-UNLIKELY"),
        "{}",
        filled.stdout
    );
}

#[test]
fn every_profile_has_a_template_and_wrong_names_are_told() {
    let desk = Desk::new();
    for profile in ["hypervisor", "network", "database-tier"] {
        let ran = desk.run(&format!("new --profile {profile} --release develop"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.contains("\nname = \"<fill in>\"\n"),
            "{}",
            ran.stdout
        );
    }
    for (args, part) in [
        ("new --profile web", "there are: database-tier, hypervisor"),
        (
            "new --profile network --release 9",
            "there are: 0.7, develop",
        ),
        ("new --profile network --node HV1", "write \"hv1\""),
    ] {
        let ran = desk.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{args}");
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn check_merges_like_drop_ins_and_says_what_it_cannot_see() {
    let desk = Desk::new();
    desk.file("a.toml", NODE);
    desk.file("b.toml", "schema = 1\n[node]\nname = \"DB2\"\n");
    let (code, json) = desk.json("check b.toml a.toml --profile database-tier --json");
    assert_eq!((code, &json["ok"]), (0, &Value::Bool(true)), "{json:#}");
    assert_eq!(json["not_judged"][0]["field"], "secrets.auth_secret_seed");
    assert_eq!(json["not_judged"][0]["value"], "credential \"sf.seed\"");
    let (code, json) = desk.json("check a.toml b.toml --profile database-tier --json");
    assert_eq!((code, &json["exit_code"]), (78, &Value::from(78)));
    assert_eq!(json["problems"][0]["code"], "SF-META-INVALID");
    assert_eq!(json["problems"][0]["source"], "b.toml:3");
    assert_eq!(json["problems"][0]["hint"], "write \"db2\"");
}

#[test]
fn without_a_profile_each_role_is_told_apart() {
    let desk = Desk::new();
    desk.file("a.toml", &NODE.replace("network_node = \"10.0.0.2\"\n", ""));
    let ran = desk.run("check a.toml --release develop");
    assert_eq!(ran.code, 78, "{}", ran.stdout);
    assert!(
        ran.stderr
            .contains("cluster.database_nodes: missing: no node can do without it"),
        "{}",
        ran.stderr
    );
    desk.file("b.toml", "schema = 1\ncluster.database_nodes = [\"10.0.0.1\"]\ncluster.network_node = \"10.0.0.2\"\n");
    let ran = desk.run("check a.toml b.toml --release develop");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("fits a node of role network\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn no_mistake_in_or_beside_a_secret_shows_it() {
    let desk = Desk::new();
    for (name, broken) in [
        (
            "syntax",
            NODE.replace("[secrets]", "[secrets\nc4n4ry = c4n4ry\nc4n4ry"),
        ),
        ("open", NODE.replace("c4n4ry\\\"key\\\\x\"", "c4n4ry")),
        ("type", NODE.replace("\"mysql://", "\"c4n4ry mysql//")),
        (
            "unknown",
            NODE.replace("[config]", "[config]\nX_PASSWORD = \"c4n4ry'c4n4ry\""),
        ),
        ("key", NODE.replace("system_key =", "system_kee =")),
        (
            "table",
            NODE.replace("dsn = ", "dsn = { credentail = \"c4n4ry\" }\nwait = "),
        ),
    ] {
        desk.file("x.toml", &broken);
        for args in [
            "check x.toml",
            "check x.toml --json",
            "seal x.toml --output-dir out",
        ] {
            let ran = desk.run(args);
            assert_eq!(ran.code, 78, "{name}: {}{}", ran.stdout, ran.stderr);
        }
    }
    assert!(!desk.path("out").exists());
    fs::write(
        desk.path("x.toml"),
        [&b"c4n4ry\n\xff"[..], NODE.as_bytes()].concat(),
    )
    .expect("write");
    let ran = desk.run("check x.toml");
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains("line 2"), "{}", ran.stderr);
    assert_eq!(desk.run("check nowhere.toml").code, 69);
}

#[test]
fn a_config_drive_is_what_cloud_tools_read_and_says_that_it_hides_nothing() {
    let desk = Desk::new();
    desk.file("node.toml", NODE);
    let ran = desk.run("seal node.toml --output-dir out --profile database-tier");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in [
        "out/db1.example.com/db1.example.com.img\n",
        "holds database.dsn, secrets.system_key: NOT encrypted; whoever can read this file",
        "the node needs besides, from elsewhere: secrets.auth_secret_seed: credential \"sf.seed\"",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    let image = desk.path("out/db1.example.com/db1.example.com.img");
    let label = Cmd::new(Tool::Blkid)
        .args(["--probe", "--output", "export"])
        .arg(&image)
        .run()
        .expect("blkid")
        .text();
    assert!(
        label.contains("LABEL=CIDATA\n") && label.contains("TYPE=vfat"),
        "{label}"
    );
    let meta = mcopy(&image, "meta-data");
    assert_eq!(
        meta,
        "instance-id: db1.example.com\nlocal-hostname: db1.example.com\n"
    );
    // The node reads the same as the desk did: checked there, it is right too.
    let user = mcopy(&image, "user-data");
    let bytes = fs::read(&image).expect("read");
    for (name, text) in [("user-data", &user), ("meta-data", &meta)] {
        let read = sf_firstboot::sources::drive::read_file(&bytes, name);
        let read = read.expect("the agent reads it").expect(name);
        assert_eq!(read, text.as_bytes());
    }
    assert!(user.contains("system_key = \"c4n4ry\\\"key\\\\x\"\n") && !user.contains('#'));
    desk.file("again.toml", &user);
    let again = desk.run("check again.toml --profile database-tier");
    assert_eq!(again.code, 0, "{}", again.stderr);

    let first = fs::read(&image).expect("read");
    let exists = desk.run("seal node.toml --output-dir out --profile database-tier");
    assert_eq!(exists.code, 64);
    let forced = desk.run("seal node.toml --output-dir out --profile database-tier --force");
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    assert!(fs::read(&image).expect("read") == first, "not reproducible");
    assert_eq!(
        desk.revealing("out"),
        ["db1.example.com/db1.example.com.img"]
    );
    assert_eq!(files(&desk.path("out")).len(), 2, "nothing partial is left");
}

#[test]
fn separate_secrets_leave_the_drive_and_are_encrypted_for_the_node() {
    let desk = Desk::new();
    desk.file("node.toml", NODE);
    // What stands at /var/lib/systemd/credential.secret on the node.
    let host_key = desk.path("host-key");
    Cmd::new(Tool::SystemdCreds)
        .arg("setup")
        .env("SYSTEMD_CREDENTIAL_SECRET", &host_key)
        .run()
        .expect("a host key");
    let (code, json) = desk.json(
        "seal node.toml --output-dir out --separate --with-key host --host-key host-key --json",
    );
    assert_eq!(code, 0, "{json:#}");
    assert_eq!(desk.revealing("out"), Vec::<String>::new());
    let folder = desk.path("out/db1.example.com");
    let user = mcopy(&folder.join("db1.example.com.img"), "user-data");
    assert!(!user.contains("dsn") && user.contains("auth_secret_seed = { credential"));
    for (field, text) in [
        (
            "database.dsn",
            "mysql://sf:c4n4ry%2Fdsn@db.example.com:3306/shakenfist\n",
        ),
        ("secrets.system_key", "c4n4ry\"key\\x\n"),
    ] {
        let name = format!("sf.{field}");
        let path = folder.join(format!("credentials/{name}.cred"));
        assert_eq!(decrypt(&path, &name, Some(&host_key)), text);
    }
    let encrypted: Vec<bool> = json["artefacts"]
        .as_array()
        .expect("list")
        .iter()
        .map(|artefact| artefact["encrypted"].as_bool().expect("bool"))
        .collect();
    assert_eq!(encrypted, [false, true, true]);
    assert_eq!(json["artefacts"][0]["secrets"], serde_json::json!([]));
}

#[test]
fn credentials_come_as_files_and_smbios_strings_or_with_the_null_key() {
    let desk = Desk::new();
    desk.file("node.toml", NODE);
    let ran = desk.run("seal node.toml --output-dir out --as credentials");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let plain = fs::read_to_string(desk.path("out/db1.example.com/credentials/sf.metadata"));
    let smbios = fs::read_to_string(desk.path("out/db1.example.com/smbios/sf.metadata.txt"));
    let string = smbios.expect("smbios");
    let (name, value) = string.split_once('=').expect("=");
    assert_eq!(name, "io.systemd.credential.binary:sf.metadata");
    assert_eq!(base64_text(value), plain.ok());
    assert_eq!(
        ran.stdout.matches("NOT encrypted").count(),
        2,
        "{}",
        ran.stdout
    );
    assert_eq!(desk.revealing("out").len(), 2);

    let ran = desk.run("seal node.toml --output-dir out --as credentials --with-key null --force");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("NOT encrypted, in the form of"),
        "{}",
        ran.stdout
    );
    let path = desk.path("out/db1.example.com/credentials/sf.metadata.cred");
    assert!(decrypt(&path, "sf.metadata", None).contains("c4n4ry%2Fdsn"));
    assert!(
        !desk.path("out/db1.example.com/smbios").exists(),
        "the old output is gone"
    );
}

#[test]
fn a_seal_that_fails_leaves_what_was_there_and_nothing_partial() {
    let desk = Desk::new();
    desk.file("node.toml", NODE);
    assert_eq!(desk.run("seal node.toml --output-dir out").code, 0);
    let before = fs::read(desk.path("out/db1.example.com/db1.example.com.img")).expect("read");
    desk.file("bad-key", "no PEM");
    let ran = desk.run(
        "seal node.toml --output-dir out --as credentials --with-key tpm2 --tpm2-public-key bad-key --force",
    );
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("could not encrypt the credential sf.metadata")
            && ran.stderr.contains("has-tpm2"),
        "{}",
        ran.stderr
    );
    let after = fs::read(desk.path("out/db1.example.com/db1.example.com.img")).expect("read");
    assert!(before == after);
    let names: Vec<_> = fs::read_dir(desk.path("out"))
        .expect("read")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(names, ["db1.example.com"]);
    let absent =
        desk.run("seal node.toml --output-dir out --separate --with-key host --host-key absent");
    assert_eq!(absent.code, 69, "{}", absent.stderr);
    assert!(
        absent.stderr.contains("/var/lib/systemd/credential.secret"),
        "{}",
        absent.stderr
    );
    assert!(!desk.path("absent").exists(), "systemd made up a host key");
    for (args, part) in [
        ("--with-key host", "a config drive is never encrypted"),
        (
            "--separate --with-key null --host-key bad-key",
            "--host-key is of no use",
        ),
        (
            "--node db2.example.com --force",
            "--node is \"db2.example.com\", but node.toml:3 says",
        ),
    ] {
        let ran = desk.run(&format!("seal node.toml --output-dir out {args}"));
        assert!([64, 78].contains(&ran.code), "{args}");
        assert!(ran.stderr.contains(part), "{args}\n{}", ran.stderr);
    }
}

#[test]
fn a_copy_of_a_host_key_that_systemd_would_not_take_is_refused_with_the_reason() {
    let desk = Desk::new();
    desk.file("node.toml", NODE);
    let key = desk.path("key");
    Cmd::new(Tool::SystemdCreds)
        .arg("setup")
        .env("SYSTEMD_CREDENTIAL_SECRET", &key)
        .run()
        .expect("a host key");
    let whole = fs::read(&key).expect("read");
    fs::write(desk.path("half"), &whole[..2000]).expect("write");
    fs::create_dir(desk.path("folder")).expect("mkdir");
    fs::write(desk.path("open"), &whole).expect("write");
    for name in ["open", "half"] {
        let mode = if name == "open" { 0o640 } else { 0o400 };
        fs::set_permissions(desk.path(name), std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let seal = |name: &str| {
        desk.run(&format!(
            "seal node.toml --output-dir out --separate --with-key host --host-key {name}"
        ))
    };
    let open = desk.path("open");
    for (name, what, hint) in [
        ("half", "has 2000 bytes; a host key has 4112", "once more"),
        ("folder", "is no file", "once more"),
        (
            "open",
            "has the mode 0640",
            &*format!("chmod 0400 {}", open.display()),
        ),
    ] {
        let ran = seal(name);
        assert_eq!(ran.code, 69, "{}", ran.stderr);
        for part in [what, hint] {
            assert!(ran.stderr.contains(part), "{}", ran.stderr);
        }
        assert!(!ran.stderr.contains("tpm2"), "{}", ran.stderr);
    }
    assert!(!desk.path("out").exists());
    // What the hint says helps.
    fs::set_permissions(&open, std::fs::Permissions::from_mode(0o400)).expect("chmod");
    let ran = seal("open");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn what_no_node_would_take_is_refused_at_the_desk() {
    let desk = Desk::new();
    for (reference, part) in [
        ("{ file = \"keys/system\" }", "not an absolute path"),
        ("{ credential = \"a/b\" }", "is not a credential's name"),
        ("{ credential = \"..\" }", "is not a credential's name"),
        ("{ credential = \"\" }", "is not a credential's name"),
    ] {
        desk.file(
            "node.toml",
            &NODE.replace("{ credential = \"sf.seed\" }", reference),
        );
        for args in [
            "check node.toml",
            "check node.toml --profile database-tier",
            "seal node.toml --output-dir out",
        ] {
            let ran = desk.run(args);
            assert_eq!(ran.code, 78, "{reference} {args}\n{}", ran.stdout);
            assert!(ran.stderr.contains(part), "{}", ran.stderr);
            assert!(!ran.stderr.contains("not judged here"), "{}", ran.stderr);
        }
    }
    // Two files that can be read, and one document that could not.
    desk.file("node.toml", NODE);
    for letter in ["A", "B"] {
        let text = "x".repeat(700_000);
        desk.file(
            &format!("{letter}.toml"),
            &format!("schema = 1\nconfig.{letter}_X = \"{text}\"\n"),
        );
    }
    let ran = desk.run("seal node.toml A.toml B.toml --output-dir out");
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("a node reads 1 MiB at most"),
        "{}",
        ran.stderr
    );
    assert!(!desk.path("out").exists());
}

#[test]
fn one_document_serves_several_nodes_that_are_named_at_the_desk() {
    let desk = Desk::new();
    desk.file(
        "cluster.toml",
        &NODE.replace("name = \"db1.example.com\"\n", ""),
    );
    let unnamed = desk.run("seal cluster.toml --output-dir out");
    assert_eq!(unnamed.code, 78);
    assert!(
        unnamed.stderr.contains("node.name: missing"),
        "{}",
        unnamed.stderr
    );
    for node in ["db1.example.com", "db2.example.com"] {
        let ran = desk.run(&format!("seal cluster.toml --output-dir out --node {node}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let user = mcopy(&desk.path(&format!("out/{node}/{node}.img")), "user-data");
        assert!(user.contains(&format!("node.name = \"{node}\"\n")));
    }
}
