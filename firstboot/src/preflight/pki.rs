//! The metadata's certificates, by [`crate::pki`].

use std::os::unix::fs::MetadataExt as _;

use sf_contract::metadata::node::SpicePki;
use sf_contract::secret::Secret;

use super::{Context, Found};
use crate::clock;
use crate::codes;
use crate::failure::Failure;
use crate::pki::{self, Item, Set, Usage, Verdict};

/// What of the certificates cannot work.
pub(super) fn sound(context: &Context<'_>) -> Found {
    let verdicts = verdicts(context);
    if verdicts.is_empty() {
        return none_here(context);
    }
    let findings: Vec<Failure> = verdicts
        .iter()
        .flat_map(|verdict| verdict.findings.clone())
        .collect();
    if !findings.is_empty() {
        return Found::Failed { findings };
    }
    let mut shown: Vec<String> = verdicts
        .iter()
        .filter_map(|verdict| Some(verdict.leaf.as_ref()?.to_string()))
        .collect();
    let given = &context.node.metadata().pki;
    if given.certificate.is_some() && given.ca.is_none() {
        shown.push("no pki.ca is given: whose it is was not judged".into());
    }
    if shown.is_empty() {
        Found::passed()
    } else {
        Found::noted(shown.join("; "))
    }
}

/// What of them works today, and should not stay so.
pub(super) fn lasting(context: &Context<'_>) -> Found {
    let verdicts = verdicts(context);
    if verdicts.is_empty() {
        return none_here(context);
    }
    let mut findings: Vec<Failure> = verdicts
        .into_iter()
        .flat_map(|verdict| verdict.warnings)
        .collect();
    findings.extend(unprotected(context, "pki.key"));
    if context.node.image.role().runs_instances() {
        findings.extend(unprotected(context, "pki.libvirt_spice.key"));
    }
    Found::judged(findings)
}

/// There is nothing to judge.
fn none_here(context: &Context<'_>) -> Found {
    let elsewhere = context.node.elsewhere();
    Found::skipped(if elsewhere.keys().any(|field| field.starts_with("pki.")) {
        "only the node has the certificates: judged there"
    } else if context.node.metadata().pki.libvirt_spice == SpicePki::default() {
        "the metadata gives no certificates"
    } else {
        "the metadata gives certificates for consoles alone, and this role has none"
    })
}

/// One verdict for each set of which anything is given that this role installs.
fn verdicts(context: &Context<'_>) -> Vec<Verdict> {
    let metadata = context.node.metadata();
    let (pki, spice) = (&metadata.pki, &metadata.pki.libvirt_spice);
    let node = &metadata.node;
    // Nodes call each other by name; viewers are sent to the egress address.
    let addresses = |all: [Option<std::net::Ipv4Addr>; 2]| {
        std::iter::once(node.name.clone())
            .chain(all.into_iter().flatten().map(|address| address.to_string()))
            .collect::<Vec<String>>()
    };
    let (mesh, egress) = (node.mesh.address, node.egress.address);
    let sets = [
        (
            Usage::Node,
            [
                ("pki.ca", &pki.ca),
                ("pki.certificate", &pki.certificate),
                ("pki.key", &pki.key),
            ],
            addresses([mesh, None]),
        ),
        (
            Usage::Console,
            [
                ("pki.libvirt_spice.ca", &spice.ca),
                ("pki.libvirt_spice.certificate", &spice.certificate),
                ("pki.libvirt_spice.key", &spice.key),
            ],
            addresses([egress, mesh]),
        ),
    ];
    let now = clock::now_seconds();
    let built = super::clock::image_made(context);
    let consoles = context.node.image.role().runs_instances();
    sets.iter()
        .filter(|(usage, ..)| consoles || *usage != Usage::Console)
        .filter(|(_, items, _)| items.iter().any(|(_, value)| value.is_some()))
        .map(|(usage, items, names)| {
            let [ca, certificate, key] = *items;
            let set = Set {
                ca: item(context, ca),
                certificate: item(context, certificate),
                key: item(context, key),
                usage: *usage,
                names,
            };
            pki::judge(&set, now, built)
        })
        .collect()
}

fn item<'c>(
    context: &'c Context<'_>,
    (field, value): (&'static str, &'c Option<Secret>),
) -> Option<Item<'c>> {
    let origin = context.node.origin(field);
    Some(Item {
        field,
        source: origin.map_or("node metadata", |origin| origin.place.as_str()),
        file: origin.and_then(|origin| origin.file.as_deref()),
        bytes: value.as_ref()?.expose().as_bytes(),
    })
}

/// Others may read the key's file, or put another one in its place.
fn unprotected(context: &Context<'_>, field: &'static str) -> Option<Failure> {
    let file = context.node.origin(field)?.file.as_deref()?;
    let meta = std::fs::metadata(context.paths.at(file)).ok()?;
    let mode = meta.mode() & 0o7777;
    let how = exposed(mode, meta.uid(), rustix::process::geteuid().as_raw())?;
    Some(
        Failure::new(
            &codes::PKI_MODE,
            format!("{field}: {file} {how} (mode {mode:04o})"),
        )
        .value(format!("{mode:04o}"))
        .source(file)
        .remedy(format!(
            "chown root:root {file} && chmod 0600 {file}; if it stood open for long, have a new \
             key and certificate made."
        ))
        .next_command(format!("ls -l {file}")),
    )
}

/// How a key's file is open to others than root; `None` for what is root's
/// alone. A group is never needed: the agent copies what others have to read.
/// At a desk the files belong to whoever checks them (`checker`); on the node
/// that is root.
fn exposed(mode: u32, owner: u32, checker: u32) -> Option<String> {
    if mode & 0o004 != 0 {
        Some("can be read by every user".into())
    } else if mode & 0o022 != 0 {
        Some("can be changed by others than its owner".into())
    } else if mode & 0o040 != 0 {
        Some("can be read by its group".into())
    } else if owner != 0 && owner != checker {
        Some(format!("belongs to the user {owner}, not to root"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::exposed;

    #[test]
    fn only_what_root_alone_can_read_is_protected() {
        for (mode, owner, checker, part) in [
            (0o600, 0, 0, None),
            (0o400, 0, 0, None),
            (0o600, 1000, 1000, None),
            (0o644, 0, 0, Some("every user")),
            (0o640, 0, 0, Some("its group")),
            (0o440, 0, 0, Some("its group")),
            (0o660, 0, 0, Some("changed by others")),
            (0o602, 0, 0, Some("changed by others")),
            (0o600, 106, 0, Some("belongs to the user 106")),
            (0o600, 106, 1000, Some("belongs to the user 106")),
        ] {
            let how = exposed(mode, owner, checker);
            assert_eq!(how.is_some(), part.is_some(), "{mode:04o} {how:?}");
            assert!(how.unwrap_or_default().contains(part.unwrap_or_default()));
        }
    }
}
