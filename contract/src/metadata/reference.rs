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
says where a value came from and which sources it shadows, and `sf-firstboot check --metadata FILE` tries a file
at your desk.

## Secrets

Wherever a field takes a secret, it can stand in the document itself, in a systemd credential, or in a file:

```toml
[secrets]
system_key = \"…\"                             # inline: keep the file 0600
system_key = { credential = \"sf-system-key\" }  # a credential of the agent's unit
system_key = { file = \"/run/keys/system-key\" } # an absolute path on the node
```

PEM items of `[pki]` take a path as a plain string too. One closing line break of a credential or file is not part of
the secret. A document that is readable for everybody and holds a secret is warned about (`SF-META-EXPOSED`).

## Sources

In falling precedence; what stands first wins, field by field. Lists are replaced as a whole; `[config]`,
`[cluster.config]` and `hosts` merge key by key. A source that is there but broken stops the agent.

";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for (index, layer) in Layer::ALL.iter().enumerate() {
        let _ = writeln!(page, "{}. {}", index + 1, layer.about());
    }
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
