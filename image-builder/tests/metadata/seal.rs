//! `metadata seal`: config drives and credential files.

use std::os::unix::fs::PermissionsExt as _;

use fs_err as fs;
use sf_command::{Cmd, Tool};

use super::desk::{Desk, NODE, base64_text, decrypt, files, mcopy};

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
