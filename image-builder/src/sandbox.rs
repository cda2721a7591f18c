//! Runs programs of the tools tree inside mkosi's sandbox.
//!
//! Owns: the sandbox's view of the file system: /usr is the tools tree's, what
//! else the host has is there to be read (so its certificates, resolver and pip
//! settings apply), and only the folders named are writable. Refuses: the
//! caller's environment, but for what says how to reach the network.

use std::env;
use std::path::{Path, PathBuf};

use sf_command::Cmd;

use crate::mkosi::Mkosi;

/// A sandbox over one tools tree.
#[derive(Debug, Clone)]
pub struct Sandbox<'a> {
    mkosi: &'a Mkosi,
    tools: &'a Path,
    binds: Vec<(PathBuf, PathBuf, bool)>,
    env: Vec<(String, String)>,
}

impl<'a> Sandbox<'a> {
    /// A sandbox whose /usr is that of `tools`.
    pub fn new(mkosi: &'a Mkosi, tools: &'a Path) -> Self {
        Self {
            mkosi,
            tools,
            binds: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Shows the host's `from` at `to`, writable.
    #[must_use]
    pub fn bind(mut self, from: &Path, to: impl Into<PathBuf>) -> Self {
        self.binds.push((from.to_owned(), to.into(), true));
        self
    }

    /// Shows the host's `from` at `to`, for reading.
    #[must_use]
    pub fn show(mut self, from: &Path, to: impl Into<PathBuf>) -> Self {
        self.binds.push((from.to_owned(), to.into(), false));
        self
    }

    /// Sets a variable inside.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The command that runs `program` (a path inside) with `args`.
    pub fn cmd<I: IntoIterator<Item: Into<std::ffi::OsString>>>(
        &self,
        program: &str,
        args: I,
    ) -> Cmd {
        self.cmd_with(
            program,
            args,
            &readable_folders(),
            &passed_environment(env::vars()),
        )
    }

    fn cmd_with<I: IntoIterator<Item: Into<std::ffi::OsString>>>(
        &self,
        program: &str,
        args: I,
        readable: &[PathBuf],
        passed: &[(String, String)],
    ) -> Cmd {
        let mut cmd = self.mkosi.sandbox().env_clear();
        for (name, value) in passed {
            cmd = cmd.env(name, value);
            // An index or a proxy may carry a password.
            if let Some(password) = password_of(value) {
                cmd = cmd.secret(password);
            }
        }
        cmd = cmd.args([
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run",
        ]);
        for folder in readable {
            cmd = cmd.arg("--ro-bind").arg(folder).arg(folder);
        }
        // /etc/resolv.conf may be a link into it.
        for folder in [
            "/run/systemd/resolve",
            "/run/resolvconf",
            "/run/NetworkManager",
        ] {
            cmd = cmd.args(["--ro-bind-try", folder, folder]);
        }
        // An overlay, because the mount points below it have to be made.
        cmd = cmd.arg("--overlay-lowerdir").arg(self.tools.join("usr"));
        cmd = cmd.args(["--overlay-upperdir", "tmpfs", "--overlay", "/usr"]);
        for name in ["bin", "sbin", "lib", "lib64"] {
            cmd = cmd.args([
                "--symlink".to_owned(),
                format!("usr/{name}"),
                format!("/{name}"),
            ]);
        }
        for (from, to, writable) in &self.binds {
            cmd = cmd
                .arg(if *writable { "--bind" } else { "--ro-bind" })
                .arg(from)
                .arg(to);
        }
        for (name, value) in &self.env {
            cmd = cmd.arg("--setenv").arg(name).arg(value);
        }
        cmd = cmd.args([
            "--setenv",
            "PATH",
            "/usr/bin:/usr/sbin",
            "--setenv",
            "LC_ALL",
            "C.UTF-8",
        ]);
        cmd.args(["--setenv", "TZ", "UTC", "--chdir", "/tmp", "--"])
            .arg(program)
            .args(args)
    }
}

/// What of the caller's environment says how to reach the network.
pub fn passed_environment(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let prefixes = ["PIP_", "SSL_CERT_"];
    let names = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "REQUESTS_CA_BUNDLE",
        "HOME",
    ];
    let mut passed: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| {
            let upper = name.to_ascii_uppercase();
            names.contains(&upper.as_str()) || prefixes.iter().any(|p| upper.starts_with(p))
        })
        .collect();
    passed.sort();
    passed
}

/// The password in `scheme://user:password@host`.
pub fn password_of(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (userinfo, _) = rest.split('/').next()?.rsplit_once('@')?;
    let (_, password) = userinfo.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

/// The host's top-level folders that the sandbox does not make itself.
fn readable_folders() -> Vec<PathBuf> {
    let own = [
        "usr",
        "bin",
        "sbin",
        "proc",
        "dev",
        "sys",
        "tmp",
        "run",
        "boot",
        "lost+found",
    ];
    let mut folders: Vec<PathBuf> = fs_err::read_dir("/")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            !own.contains(&name.as_ref()) && !name.starts_with("lib")
        })
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_binds_what_it_was_told_and_no_more() {
        let mkosi = Mkosi::unpacked("25.3", Path::new("/cache/mkosi"));
        let sandbox = Sandbox::new(&mkosi, Path::new("/cache/tools"))
            .bind(Path::new("/cache/out"), "/usr/lib/x")
            .show(Path::new("/cache/in"), "/in")
            .env("A", "b");
        let passed = [(
            "PIP_INDEX_URL".into(),
            "https://me:s3cret@index.example/x".into(),
        )];
        let cmd = sandbox.cmd_with("/usr/bin/python3", ["-V"], &["/etc".into()], &passed);
        let shown = cmd.to_string();
        assert!(!shown.contains("s3cret"), "{shown}");
        insta::assert_snapshot!(shown.replace(" --", "\n--"));
    }

    #[test]
    fn passes_only_the_way_to_the_network() {
        let variables = [
            "PIP_CERT",
            "http_proxy",
            "PATH",
            "PYTHONPATH",
            "AWS_SECRET",
            "HOME",
        ]
        .map(|name| (name.to_owned(), "x".to_owned()));
        let names: Vec<_> = passed_environment(variables)
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(names, ["HOME", "PIP_CERT", "http_proxy"]);
    }

    #[test]
    fn finds_passwords_in_addresses() {
        for (value, want) in [
            ("https://u:p@h/x", Some("p")),
            ("http://u:p@ss@h:3128", Some("p@ss")),
            ("https://u@h/x", None),
            ("https://h/x@y:z", None),
            ("x", None),
        ] {
            assert_eq!(password_of(value), want, "{value}");
        }
    }
}
