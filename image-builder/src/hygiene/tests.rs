use super::*;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n";
const SELF_TEST: &[u8] = b"\x7fELF\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n";
const STATUS: &str = "Package: bash\nStatus: install ok installed\nVersion: 5\n\n\
    Package: rsyslog\nStatus: install ok installed\n\nPackage: nginx\nStatus: deinstall ok config-files\n";

fn policy() -> Policy {
    Policy {
        product: true,
        set_uid: BTreeSet::from(["/usr/bin/su".to_owned()]),
    }
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry {
        path,
        kind: Kind::File,
        mode: 0o644,
        content,
    }
}

/// An image as it should be, with what often stands in one and looks bad.
fn clean() -> Vec<Entry<'static>> {
    vec![
        Entry {
            path: "usr/bin/su",
            kind: Kind::File,
            mode: 0o4755,
            content: b"\x7fELF",
        },
        Entry {
            path: "usr/bin",
            kind: Kind::Folder,
            mode: 0o2755,
            content: b"",
        },
        file("usr/lib/libgnutls.so.30", SELF_TEST),
        file(
            "usr/lib/sysimage/dpkg/info/libgnutls30t64:amd64.list",
            b"/usr/lib/libgnutls.so.30\n",
        ),
        file(
            "usr/lib/shakenfist/lib/python3.13/site-packages/x/doc.py",
            b"'https://me:not-re%40l@github.com/'\n",
        ),
        file(
            "usr/bin/python3",
            b"\x7fELF -----BEGIN PRIVATE KEY-----\0 ssh_host_rsa_key",
        ),
        file("usr/share/factory/etc/machine-id", b"uninitialized\n"),
        file(
            "usr/share/factory/etc/shadow",
            b"root:*:20000:0:99999:7:::\n",
        ),
        file(
            "usr/share/factory/etc/ssh/ssh_config",
            b"# IdentityFile ~/.ssh/id_rsa\n",
        ),
        file(
            "usr/share/factory/etc/ssl/certs/a.pem",
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        ),
        file(
            "usr/share/factory/etc/nsswitch.conf",
            b"passwd: files systemd\n",
        ),
        file("usr/share/doc/x/README", b"mysql://user:password@host/db\n"),
        file(
            "usr/lib/tmpfiles.d/zz.conf",
            b"d /var/log/libvirt 0755 root root -\n",
        ),
        file(
            "usr/lib/sysimage/dpkg/status",
            b"Package: bash\nStatus: install ok installed\n",
        ),
        file(
            "usr/lib/sysimage/dpkg/info/login.list",
            b"/.\n/bin/su\n/etc/login.defs\n",
        ),
    ]
}

fn found(planted: Vec<Entry<'_>>) -> Vec<Finding> {
    inspect(clean().into_iter().chain(planted), &policy())
}

#[test]
fn a_clean_image_has_no_finding() {
    assert_eq!(found(vec![]), []);
}

/// Every kind of finding, planted one at a time: exactly that one is seen.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_planted_finding_is_seen() {
    let dsn: &[u8] = b"dsn = mysql://sf:Zk3hQv9T@db/shakenfist\n";
    let cases: Vec<(Rule, &str, Entry<'_>)> = vec![
        (
            Rule::HostKey,
            "/etc/ssh/ssh_host_ed25519_key.pub",
            file(
                "usr/share/factory/etc/ssh/ssh_host_ed25519_key.pub",
                b"ssh-ed25519 AAAA",
            ),
        ),
        (
            Rule::LoginKey,
            "/usr/share/factory-root/.ssh/authorized_keys",
            file(
                "usr/share/factory-root/.ssh/authorized_keys",
                b"ssh-ed25519 AAAA",
            ),
        ),
        (
            Rule::Identity,
            "/var/lib/dbus/machine-id",
            file(
                "usr/share/factory/var/lib/dbus/machine-id",
                b"0123456789abcdef0123456789abcdef\n",
            ),
        ),
        (
            Rule::Identity,
            "/srv/shakenfist/node_uuid",
            file("usr/share/factory/srv/shakenfist/node_uuid", b"7c9e"),
        ),
        (
            Rule::Identity,
            "/var/lib/systemd/random-seed",
            file("usr/share/factory/var/lib/systemd/random-seed", b"xx"),
        ),
        (
            Rule::NodeConfig,
            "/etc/sf/config",
            file(
                "usr/share/factory/etc/sf/config",
                b"SHAKENFIST_NODE_NAME=\"x\"\n",
            ),
        ),
        (
            Rule::NodeConfig,
            "/etc/sf/metadata.d/10.toml",
            file(
                "usr/share/factory/etc/sf/metadata.d/10.toml",
                b"schema = 1\n",
            ),
        ),
        (
            Rule::NodeConfig,
            "/etc/pki/sf/node.pem",
            file("usr/share/factory/etc/pki/sf/node.pem", b"x"),
        ),
        (
            Rule::PrivateKey,
            "/usr/lib/x/key.py",
            file("usr/lib/x/key.py", KEY.as_bytes()),
        ),
        (
            Rule::PrivateKey,
            "/usr/bin/mine",
            file("usr/bin/mine", SELF_TEST),
        ),
        (
            Rule::Password,
            "/usr/lib/systemd/system/x.service",
            file("usr/lib/systemd/system/x.service", dsn),
        ),
        (
            Rule::Password,
            "/etc/default/x",
            file(
                "usr/share/factory/etc/default/x",
                b"SHAKENFIST_AUTH_SECRET_SEED=\"Zk3hQv9TzzLm\"\n",
            ),
        ),
        (
            Rule::Login,
            "/etc/shadow",
            file(
                "usr/share/factory/etc/shadow",
                b"root:$y$j9T$x$y:20000:0:99999:7:::\n",
            ),
        ),
        (
            Rule::AptList,
            "/var/lib/apt/lists/x_Packages",
            file("usr/share/factory/var/lib/apt/lists/x_Packages", b""),
        ),
        (
            Rule::AptList,
            "/var/cache/apt/archives/x.deb",
            file("usr/share/factory/var/cache/apt/archives/x.deb", b""),
        ),
        (
            Rule::Log,
            "/var/log/dpkg.log",
            file("usr/share/factory/var/log/dpkg.log", b""),
        ),
        (
            Rule::SetUid,
            "/usr/bin/chage2",
            Entry {
                path: "usr/bin/chage2",
                kind: Kind::File,
                mode: 0o2755,
                content: b"",
            },
        ),
        (
            Rule::SetUid,
            "/usr/lib/x/helper",
            Entry {
                path: "usr/lib/x/helper",
                kind: Kind::File,
                mode: 0o4711,
                content: b"",
            },
        ),
        (
            Rule::Infrastructure,
            "/usr/lib/sysimage/dpkg/status",
            file("usr/lib/sysimage/dpkg/status", STATUS.as_bytes()),
        ),
    ];
    let mut rules = BTreeSet::new();
    for (rule, path, entry) in cases {
        let findings = found(vec![entry]);
        let seen: Vec<_> = findings
            .iter()
            .map(|finding| (finding.rule, finding.path.as_str()))
            .collect();
        assert_eq!(seen, [(rule, path)]);
        rules.insert(rule);
    }
    // Sizes have a test of their own.
    assert_eq!(
        rules.len(),
        11,
        "a rule without a planted finding: {rules:?}"
    );
}

#[test]
fn a_finding_names_the_package_and_no_secret() {
    let list = file(
        "usr/lib/sysimage/dpkg/info/passwd.list",
        b"/usr/bin/chsh2\n/etc/x\n",
    );
    let planted = vec![
        file("usr/share/factory/etc/x", b"password = Zk3hQv9Tzz\n"),
        Entry {
            path: "usr/bin/chsh2",
            kind: Kind::File,
            mode: 0o4755,
            content: b"",
        },
        file(
            "usr/lib/shakenfist/lib/python3.13/site-packages/requests-2/direct_url.json",
            b"https://me:Zk3hQv9T@index.example/\n",
        ),
        file("usr/lib/mine/key", KEY.as_bytes()),
        list,
    ];
    let shown: Vec<_> = found(planted).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    password: /etc/x sets password to what looks like a real value (line 1) (from package passwd)
    set-uid: /usr/bin/chsh2 is set-uid (4755) (from package passwd)
    private-key: /usr/lib/mine/key holds a private key (PEM "PRIVATE KEY", line 1) (from no package: mkosi.extra/, the profile, the release, or a package's script)
    password: /usr/lib/shakenfist/lib/python3.13/site-packages/requests-2/direct_url.json holds a password in a https URL (line 1) (from the Python package requests)
    "#);
    assert!(!shown.concat().contains("Zk3hQv9T"));
}

#[test]
fn only_products_are_without_infrastructure() {
    let entries = || vec![file("usr/lib/sysimage/dpkg/status", STATUS.as_bytes())];
    assert_eq!(inspect(entries(), &policy()).len(), 1);
    let example = Policy {
        product: false,
        ..policy()
    };
    assert_eq!(inspect(entries(), &example), []);
}

#[test]
fn parts_make_the_same_whole() {
    let entries = || {
        clean().into_iter().chain([
            file("usr/share/factory/var/log/x", b""),
            file("usr/lib/k", KEY.as_bytes()),
        ])
    };
    let whole = inspect(entries(), &policy());
    let mut merged = Gate::default();
    for part in 0..3 {
        let mut gate = Gate::default();
        for entry in entries().skip(part).step_by(3) {
            gate.look(&entry, &policy());
        }
        merged.merge(gate);
    }
    assert_eq!(merged.findings(), whole);
}
