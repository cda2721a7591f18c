//! Checks of the machine itself. Skipped at a desk, which is another machine.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use sf_command::Tool;
use sf_contract::metadata::node::Attachment;

use super::{Context, Found};
use crate::codes;
use crate::failure::Failure;

/// State, logs and the daemons' start need about a tenth of this.
const ROOM: u64 = 256 << 20;

const AT_A_DESK: &str = "this is not the node";

/// Room on the file systems that hold state.
pub(super) fn disk_space(context: &Context<'_>) -> Result<Found, Failure> {
    if !context.on_node {
        return Ok(Found::skipped(AT_A_DESK));
    }
    let mut findings = Vec::new();
    for folder in ["/var", "/srv"] {
        // A folder that is not there yet is on the file system of the root.
        let path = context.paths.at(folder);
        let path = if path.exists() {
            path
        } else {
            context.paths.root().to_owned()
        };
        let stat = rustix::fs::statvfs(&path).map_err(|error| {
            Failure::new(
                &codes::CHECK_IMPOSSIBLE,
                format!("the room on {folder} cannot be asked"),
            )
            .cause(&std::io::Error::from(error))
        })?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < ROOM {
            findings.push(
                Failure::new(&codes::DISK_FULL, format!("{folder} has too little room"))
                    .value(format!(
                        "{} MiB free of {} MiB",
                        free >> 20,
                        stat.f_blocks.saturating_mul(stat.f_frsize) >> 20
                    ))
                    .remedy(format!(
                        "Free {} MiB there, or give the node a larger disk.",
                        ROOM >> 20
                    ))
                    .next_command(format!("df -h {folder}")),
            );
        }
    }
    Ok(Found::judged(findings))
}

/// One interface as `ip -json address` shows it.
#[derive(Deserialize)]
struct Interface {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    local: Option<String>,
}

/// The node's addresses are on the interfaces that the metadata names.
pub(super) fn addresses(context: &Context<'_>) -> Result<Found, Failure> {
    if !context.on_node {
        return Ok(Found::skipped(AT_A_DESK));
    }
    let impossible = |error: &dyn std::error::Error| {
        let mut failure = Failure::new(
            &codes::CHECK_IMPOSSIBLE,
            "the addresses of this node cannot be asked",
        );
        failure.causes.push(error.to_string());
        failure
    };
    let output = context
        .paths
        .tool(Tool::Ip)
        .args(["-json", "address", "show"])
        .timeout(Duration::from_secs(5))
        .run()
        .map_err(|error| impossible(&error))?;
    let interfaces: Vec<Interface> =
        serde_json::from_slice(&output.stdout).map_err(|error| impossible(&error))?;
    let node = &context.node.metadata().node;
    let mut findings = Vec::new();
    for (field, attachment) in [("node.mesh", &node.mesh), ("node.egress", &node.egress)] {
        findings.extend(misplaced(field, attachment, &interfaces));
    }
    Ok(Found::judged(findings))
}

fn misplaced(field: &str, attachment: &Attachment, interfaces: &[Interface]) -> Option<Failure> {
    let names: BTreeSet<&str> = interfaces
        .iter()
        .map(|interface| interface.ifname.as_str())
        .collect();
    if let Some(name) = &attachment.interface
        && !names.contains(name.as_str())
    {
        let there: Vec<&str> = names.into_iter().filter(|name| *name != "lo").collect();
        let there = if there.is_empty() {
            "there are none".into()
        } else {
            there.join(", ")
        };
        return Some(
            Failure::new(
                &codes::INTERFACE_MISSING,
                format!("{field}.interface: there is no interface {name}"),
            )
            .value(name)
            .source(format!("metadata field {field}.interface"))
            .remedy(format!(
                "Name one that is there ({there}), or see why its driver is not loaded."
            ))
            .next_command("ip -brief link"),
        );
    }
    let address = attachment.address?.to_string();
    let holder = interfaces.iter().find(|interface| {
        interface
            .addr_info
            .iter()
            .any(|info| info.local.as_ref() == Some(&address))
    });
    let failure = |what: String| {
        Failure::new(&codes::ADDRESS_MISSING, what)
            .value(&address)
            .source(format!("metadata field {field}.address"))
            .next_command("ip -brief address")
    };
    match (holder, &attachment.interface) {
        (None, _) => Some(failure(format!(
            "{field}.address: {address} is on no interface"
        ))),
        (Some(holder), Some(name)) if holder.ifname != *name => Some(failure(format!(
            "{field}.address: {address} is on {}, not on {name}",
            holder.ifname
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_looked_for_on_their_interfaces() {
        let interfaces: Vec<Interface> = serde_json::from_str(
            r#"[{"ifname":"lo","addr_info":[{"local":"127.0.0.1"}]},
                {"ifname":"eth0","addr_info":[{"family":"inet","local":"10.0.0.5","prefixlen":24}]},
                {"ifname":"eth1","addr_info":[{}]}]"#,
        )
        .unwrap();
        let attachment = |address: Option<&str>, interface: Option<&str>| Attachment {
            address: address.map(|text| text.parse().unwrap()),
            interface: interface.map(str::to_owned),
        };
        for (address, interface, said) in [
            (Some("10.0.0.5"), Some("eth0"), None),
            (Some("10.0.0.5"), None, None),
            (None, None, None),
            (
                Some("10.0.0.5"),
                Some("eth1"),
                Some("10.0.0.5 is on eth0, not on eth1"),
            ),
            (
                Some("10.0.0.6"),
                Some("eth0"),
                Some("10.0.0.6 is on no interface"),
            ),
            (Some("10.0.0.5"), Some("ens3"), Some("no interface ens3")),
        ] {
            let found = misplaced("node.mesh", &attachment(address, interface), &interfaces);
            match (found, said) {
                (None, None) => {}
                (Some(failure), Some(said)) => {
                    assert!(failure.what.contains(said), "{}", failure.what);
                }
                (found, said) => panic!("{found:?} {said:?}"),
            }
        }
    }
}
