//! The metadata's certificates, by [`crate::pki`].

use std::os::unix::fs::MetadataExt as _;

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
    let shown: Vec<String> = verdicts
        .iter()
        .filter_map(|verdict| Some(verdict.leaf.as_ref()?.to_string()))
        .collect();
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
    for field in ["pki.key", "pki.libvirt_spice.key"] {
        findings.extend(unprotected(context, field));
    }
    Found::judged(findings)
}

/// There is nothing to judge.
fn none_here(context: &Context<'_>) -> Found {
    let elsewhere = context.node.elsewhere();
    Found::skipped(if elsewhere.keys().any(|field| field.starts_with("pki.")) {
        "only the node has the certificates: judged there"
    } else {
        "the metadata gives no certificates"
    })
}

/// One verdict for each set of which anything is given.
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
    sets.iter()
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
    let how = match (mode & 0o004 != 0, mode & 0o022 != 0) {
        (true, _) => "can be read by every user",
        (false, true) => "can be changed by others than its owner",
        (false, false) => return None,
    };
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
