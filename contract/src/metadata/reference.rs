//! The reference page `docs/reference/metadata.md`, made from the table of
//! fields; a test holds the committed page to it.

use std::fmt::Write as _;

use super::fields::FIELDS;
use super::origin::Layer;

const HEAD: &str = "\
# Node metadata

<!-- Made from contract/src/metadata/fields.rs by `SF_UPDATE_DOCS=1 cargo test -p sf-contract reference`; edit that. -->

Metadata is TOML with `schema = 1` on its first line. Unknown keys are refused, with the nearest known one.
Examples that work are in [examples/metadata](../../examples/metadata); `sf-firstboot explain FIELD` on a node
says where a value came from and which sources it shadows, and `sf-image metadata check FILE` tries a file
at your desk.

## Secrets

Wherever a field takes a secret, it can stand in the document itself, in a systemd credential, or in a file:

```toml
[secrets]
system_key = \"…\"                             # inline: keep the file 0600
system_key = { credential = \"sf-system-key\" }  # a credential of the agent's unit
system_key = { file = \"/run/keys/system-key\" } # an absolute path on the node
```

PEM items of `[pki]` take a path as a plain string too. A byte order mark and one closing line break of a credential or
file are not part of the secret. A document that is readable for everybody and holds a secret is warned about (`SF-META-EXPOSED`).

## Sources

In falling precedence; what stands first wins, field by field. Lists are replaced as a whole; `[config]`,
`[cluster.config]` and `hosts` merge key by key. A source that is there but broken stops the agent.

";

const AFTER_SOURCES: &str = "
Each source says \"not here\" with the reason, \"here\", or \"here but broken\". `sf-firstboot check` on the node asks all of
them; when there is no metadata at all, the card lists every place that was looked at and why nothing was found there.
[How to give a node its metadata](../how-to/give-a-node-its-metadata.md) has a worked example for each.

### Config drives

ISO 9660 with Rock Ridge or Joliet names, or FAT12, FAT16 or FAT32, read without being mounted and never written. The
drive must stay attached: what is on it is not copied. A file `sf-metadata.toml` in the top folder wins over user data,
which then can stay for cloud-init; user data that is a `#cloud-config`, a script, MIME, gzip or for Ignition stops the
agent (`SF-META-FOREIGN`). A `#cloud-config` with nothing in it, as Shaken Fist gives its instances, is no metadata. One drive labelled `cidata` and one labelled `CIDATA` stop it too (`SF-DRIVE-SEVERAL`); a
NoCloud and an OpenStack drive are both read. A run waits up to 10 seconds for udev to look at all devices; where no source at all has
metadata, it waits up to 10 seconds more for a drive that shows up late (a USB stick, a BMC's virtual disc).

### Settings of the fetching sources

| kernel parameter | credential | says |
|---|---|---|
| `sf.metadata_url=URL` | `sf.metadata_url` | where the document is: `http://` or `https://`, at most 1 MiB, not compressed; redirects are refused, proxies are not used, the query is never shown |
| `sf.metadata_sha256=HEX` | `sf.metadata_sha256` | the document's SHA-256; `http://` cannot do without |
| `sf.metadata_ca=sha256:HEX` | `sf.metadata_ca` | fingerprint of the CA certificate that the server sends in its chain and that its certificate comes from; or `system`, the public CAs of the image; the credential can also hold the CA in PEM; `https://` cannot do without |
| `sf.metadata_cloud=no` | `sf.metadata_cloud` | the cloud's metadata service is not asked |

A setting that is given twice must say the same. The kernel command line is readable for everybody on the node: a secret
belongs into the document.

### Clouds

A cloud is known by the machine's DMI (`/sys/class/dmi/id`), never by trying addresses. The service is at 169.254.169.254.

| cloud | known by | asked for |
|---|---|---|
| EC2 | vendor `Amazon EC2`; under Xen a UUID and serial that start with `ec2` | a token (IMDSv2; version 1 is never used), `/latest/user-data` |
| OpenStack | product `OpenStack Nova` or `OpenStack Compute`, or a provider's asset tag | `/openstack/latest/user_data`; not asked when there is a config drive |
| GCE | product `Google Compute Engine`, or serial `GoogleCloud-…` | the instance attribute `sf-metadata`, else `user-data` |
| Azure | asset tag `7783-7084-3265-9085-8269-3286-77` | `userData` |

No user data (404, or empty) is \"not here\". OpenStack, GCE and Azure are asked for the instance's id first: while that is 404
the service does not know the instance yet, and is waited for.

### When a server does not answer

A run waits up to 5 minutes, with growing pauses, and says for what; then it ends with exit code 75 and systemd begins
another. What was fetched is kept in `/var/lib/sf-firstboot/metadata` (mode 0600) once a run has gone well with it, and a
later run tries the server for 20 seconds only before it uses the copy, with the warning `SF-FETCH-KEPT`. A document with
a digest is not fetched again while the copy has that digest.

A copy stands in for a server that gives no answer (name, route, refused, timeout, 429, 5xx, cut off) or cannot prove who
it is (TLS). What the right server says counts: a 404, a redirect, a web page, another digest or metadata with mistakes
stop the agent although there is a copy. A copy is used on the machine that fetched it (machine-id and DMI product UUID),
never on a clone.

`gate` and `explain` ask no server and use the copy. `check` and `bootstrap-cluster` about another machine (`--metadata`,
`--manifest`, …) look at neither drives nor servers.
";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for (index, layer) in Layer::ALL.iter().enumerate() {
        let _ = writeln!(page, "{}. {}", index + 1, layer.about());
    }
    page.push_str(AFTER_SOURCES);
    page.push_str("\n## Fields\n");
    let mut table = "";
    for spec in FIELDS {
        if spec.table() != table {
            table = spec.table();
            let _ = write!(
                page,
                "\n### [{table}]\n\n| field | takes | default | what it is |\n|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            page,
            "| `{}` | {}{} | {} | {} |",
            spec.path,
            spec.kind.wanted(),
            if spec.kind.is_secret() {
                " (never shown)"
            } else {
                ""
            },
            spec.default.unwrap_or("–"),
            spec.doc,
        );
    }
    page.push_str("\n## Which fields a node needs\n\nThe release in the image decides; `node.name` and `database.dsn` always. ");
    page.push_str("`required_metadata` in the image's manifest.json lists them, and the agent names all missing ones at once.\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metadata.md");
        if std::env::var_os("SF_UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference"))
                .unwrap();
            std::fs::write(path, markdown()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == markdown(),
            "docs/reference/metadata.md is not current: SF_UPDATE_DOCS=1 cargo test -p sf-contract reference"
        );
    }
}
