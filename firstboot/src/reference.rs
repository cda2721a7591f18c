//! Reference documentation that is made from the code.

use std::fmt::Write as _;

use crate::card::{acts, kind_name};
use crate::codes;
use crate::preflight::{CHECKS, Severity};
use sf_contract::failure::Kind;

/// `docs/reference/errors.md`: every failure code.
pub fn errors() -> String {
    let mut text = String::from(
        "# Failure codes of the agent\n\n\
         Made from `firstboot/src/codes.rs`; a test fails when it is not current. \
         `sf-firstboot explain CODE` prints the same on a node.\n\n\
         | exit | kind | what happens next |\n|---|---|---|\n",
    );
    let mut lines: Vec<String> = Kind::ALL
        .into_iter()
        .map(|kind| {
            format!(
                "| {} | {} | {} |",
                kind.exit_code(),
                kind_name(kind),
                acts(kind)
            )
        })
        .collect();
    lines.push(String::new());
    for code in codes::ALL {
        lines.push(format!("## {}\n", code.id));
        let mut title = code.title.chars();
        let title: String = title
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .chain(title)
            .collect();
        lines.push(if code.only_warns() {
            format!("{title}. A warning: it stops nothing.\n")
        } else {
            format!(
                "{title}. Exit {} ({}).\n",
                code.kind.exit_code(),
                kind_name(code.kind)
            )
        });
        lines.push(format!("Why: {}\n", code.why));
        lines.push(format!("Remedy: {}\n", code.remedy));
    }
    for line in lines {
        let written = writeln!(text, "{line}");
        // Writing to a String cannot fail.
        debug_assert!(written.is_ok());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// `docs/reference/preflight.md`: every check of the preflight.
pub fn preflight() -> String {
    let mut lines: Vec<String> = vec![
        "# Checks of the preflight\n".into(),
        "Made from `firstboot/src/preflight/checks.rs`; a test fails when it is not current.\n".into(),
        "All checks run, in this order, on every boot that is not the fast path, and by `sf-firstboot check` on the node \
         or at a desk; none changes anything, and all findings are reported together. A finding of a check that *blocks* \
         stops the node with the exit code of its kind ([errors.md](errors.md)); what a check that *warns* finds is logged \
         and shown, and the node goes on. At a desk the checks marked with a star are listed as \"checked on the node \
         only\".\n"
            .into(),
        "| check | | looks at | codes |".into(),
        "|---|---|---|---|".into(),
    ];
    for check in CHECKS {
        let codes: Vec<String> = check
            .codes
            .iter()
            .map(|code| format!("[{0}](errors.md#{1})", code.id, code.id.to_lowercase()))
            .collect();
        let star = if check.on_node { r"\*" } else { "" };
        let severity = match check.severity {
            Severity::Blocks => "blocks",
            Severity::Warns => "warns",
        };
        lines.push(format!(
            "| {}{star} | {severity} | {} | {} |",
            check.id,
            check.about,
            codes.join(", ")
        ));
    }
    lines.push(String::new());
    lines.push(NOTES.trim().into());
    lines.push(String::new());
    lines.join("\n")
}

/// Why checks are as they are.
const NOTES: &str = r"
## Rules

**Certificates** (`pki`, `pki-upkeep`). `pki.certificate` is for a node that serves other nodes and calls them: where it has an extended key usage, that must hold serverAuth and clientAuth, and it must carry `node.name` as a subjectAltName (wildcards count, common names do not). The mesh address is not demanded: nodes call each other by name where they verify. `pki.libvirt_spice` is for hypervisors and single nodes: other roles neither judge nor install it. Its certificate needs serverAuth alone, and `node.name` or the egress or mesh address; without any it is a warning, since SPICE viewers may be told a subject (`host-subject`) in place of a name. An authority needs CA:TRUE and, where it has a key usage, keyCertSign. Keys are PKCS#8, PKCS#1 or SEC1: RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, Ed25519. A chain starts with the node's own certificate; the order behind it does not matter. A certificate that has expired, or is not valid yet, is a warning where the chain of the node's own holds without it: an old root in a bundle, a cross-signature that is over. PEM must stand as OpenSSL finds it: each block's first and last line at the beginning of a line. The file of a private key should be root's alone, mode 0600 or 0400: a group that may read it, or another owner, is a warning too. Warnings start 30 days before the end. A certificate that is not valid yet is transient, since a node's clock may only not have been synchronised yet; the finding says so when the clock is before the time at which the image was made.

**Clock** (`clock`, `clock-skew`). A clock before the image's own time stamp is wrong beyond doubt: it blocks, and is tried again, since TLS and tokens cannot work. A difference of more than 5 s to the database server's clock warns: which of the two is wrong is not known, and one server with a wrong clock must not keep every node from starting.

**Identity** (`identity`). Machines are known by their machine-id or their firmware's product UUID; UUIDs that makers leave in all their boards do not count. Without either, all such machines would be one.

**Machine** (`memory`, `kvm`, `mtu`). These warn: Shaken Fist runs without KVM, with little memory and on a small MTU, slowly or for small packets, and trials and test machines rely on it. 2 GiB are what the daemons of all roles and the system take. A mesh needs an MTU of 2000 or more, and of `cluster.max_hypervisor_mtu` where that is given.

**Database** (`database`, `database-upkeep`). `schema_versions` must equal what the image's release expects, table by table: its daemons start on nothing else. Older tables are transient (somebody has to run the release's schema command), newer ones refuse. A Galera node that is not in step with its cluster is transient; a donor only warns, since it takes statements and a nightly backup would keep every node from starting. Fewer than 20 free connections warn. What the DSN demands and the daemons of a release cannot do (TLS, several servers: `database-daemons`) warns on the roles whose daemons get the credentials: the agent keeps to it all the same.
";
