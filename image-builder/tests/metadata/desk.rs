//! A folder in which `sf-image metadata` works, and readers of what it makes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;
use sf_command::{Cmd, Sink, Tool};

/// Part of every secret.
pub(super) const CANARY: &str = "c4n4ry";

pub(super) const NODE: &str = r#"schema = 1
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

pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

pub(super) struct Desk(tempfile::TempDir);

impl Desk {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("tempdir"))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path
    }

    /// Runs `sf-image metadata ARGS`, `-F` standing for this folder, and holds
    /// that no secret is on its streams.
    pub(super) fn run(&self, args: &str) -> Ran {
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

    pub(super) fn json(&self, args: &str) -> (i32, Value) {
        let ran = self.run(args);
        let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| {
            panic!("{args}: {error}\n{}\n{}", ran.stdout, ran.stderr);
        });
        (ran.code, json)
    }

    /// Files below a folder that hold the canary, as it is or in base64.
    pub(super) fn revealing(&self, folder: &str) -> Vec<String> {
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

pub(super) fn base64_text(text: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// An SMBIOS string: `…=BASE64` with padding.
pub(super) fn base64_in(text: &str) -> bool {
    text.split_once('=')
        .and_then(|(_, value)| base64_text(value.trim()))
        .is_some_and(|text| text.contains(CANARY))
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
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
pub(super) fn mcopy(image: &Path, name: &str) -> String {
    let output = Cmd::new(Tool::Mcopy)
        .arg("-i")
        .arg(image)
        .args([&format!("::{name}"), "-"])
        .run()
        .expect("mcopy");
    String::from_utf8(output.stdout).expect("text")
}

pub(super) fn decrypt(path: &Path, name: &str, host_key: Option<&Path>) -> String {
    let mut cmd = Cmd::new(Tool::SystemdCreds)
        .args(["decrypt", &format!("--name={name}")])
        .arg(path)
        .arg("-");
    if let Some(key) = host_key {
        cmd = cmd.env("SYSTEMD_CREDENTIAL_SECRET", key);
    }
    String::from_utf8(cmd.run().expect("decrypts").stdout).expect("text")
}
