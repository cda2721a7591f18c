//! Checks of the node's addresses and of its mesh's interface.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sf_contract::metadata::node::Attachment;

use super::{Context, Found};
use crate::codes;
use crate::failure::Failure;
use crate::interfaces::{self, Interface};

/// The least MTU of the mesh that Shaken Fist takes: an instance's 1500 bytes,
/// the wrapping of the virtual network around it, and room.
const LEAST_MTU: u32 = 2000;

/// Between two looks at the interfaces.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The node's addresses are on the interfaces that the metadata names. Drivers
/// and DHCP may only be late, and nothing orders the agent after them: they are
/// waited for, like the database.
pub(super) async fn addresses(context: &mut Context<'_>) -> Result<Found, Failure> {
    loop {
        let interfaces = interfaces::read(context.paths)?;
        let node = &context.node.metadata().node;
        let findings: Vec<Failure> = [("node.mesh", &node.mesh), ("node.egress", &node.egress)]
            .into_iter()
            .filter_map(|(field, attachment)| misplaced(field, attachment, &interfaces))
            .collect();
        let Some(first) = findings.first() else {
            context.interfaces = Some(interfaces);
            return Ok(Found::passed());
        };
        let left = context.deadline.saturating_duration_since(Instant::now());
        if context.hopeless || left.is_zero() {
            return Ok(Found::Failed { findings });
        }
        (context.tell)(&format!("waiting for the network: {}", first.what));
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
    }
}

/// The mesh carries packets as large as Shaken Fist sends them.
pub(super) fn mtu(context: &mut Context<'_>) -> Result<Found, Failure> {
    let metadata = context.node.metadata();
    let interfaces = match context.interfaces.take() {
        Some(seen) => seen,
        None => interfaces::read(context.paths)?,
    };
    let mesh = &metadata.node.mesh;
    let Some((name, mtu)) = mesh_interface(mesh, &interfaces)
        .and_then(|interface| Some((&interface.name, interface.mtu?)))
    else {
        return Ok(Found::skipped("the mesh's interface is not there yet"));
    };
    let findings = too_small(name, mtu, metadata.cluster.max_hypervisor_mtu);
    if findings.is_empty() {
        return Ok(Found::noted(format!("{name} carries {mtu} bytes")));
    }
    Ok(Found::Failed { findings })
}

fn mesh_interface<'i>(mesh: &Attachment, interfaces: &'i [Interface]) -> Option<&'i Interface> {
    interfaces.iter().find(|interface| match &mesh.interface {
        Some(name) => interface.name == *name,
        None => mesh
            .address
            .is_some_and(|address| has(interface, address.into())),
    })
}

fn has(interface: &Interface, address: IpAddr) -> bool {
    interface.addresses.contains(&address)
}

fn too_small(name: &str, mtu: u32, wanted: Option<u32>) -> Vec<Failure> {
    let failure = |what: String, source: &str, least: u32, or: &str| {
        Failure::new(&codes::MTU_SMALL, what)
            .value(mtu.to_string())
            .source(source)
            .remedy(format!(
                "Raise it on the interface and on every switch of the mesh (ip link set {name} \
                 mtu {least}, and in the network's configuration){or}."
            ))
            .next_command(format!("ip link show {name}"))
    };
    let mut findings = Vec::new();
    if mtu < LEAST_MTU {
        findings.push(failure(
            format!(
                "the mesh's interface {name} carries {mtu} bytes, and Shaken Fist needs {LEAST_MTU}"
            ),
            "the MTU of the interface",
            LEAST_MTU,
            "",
        ));
    }
    if let Some(wanted) = wanted
        && mtu < wanted
    {
        findings.push(failure(
            format!("the mesh's interface {name} carries {mtu} bytes, and cluster.max_hypervisor_mtu says {wanted}"),
            "metadata field cluster.max_hypervisor_mtu",
            wanted,
            ", or lower cluster.max_hypervisor_mtu",
        ));
    }
    findings
}

fn misplaced(field: &str, attachment: &Attachment, interfaces: &[Interface]) -> Option<Failure> {
    let names: BTreeSet<&str> = interfaces
        .iter()
        .map(|interface| interface.name.as_str())
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
    let address = attachment.address?;
    let holder = interfaces
        .iter()
        .find(|interface| has(interface, address.into()));
    let failure = |what: String| {
        Failure::new(&codes::ADDRESS_MISSING, what)
            .value(address.to_string())
            .source(format!("metadata field {field}.address"))
            .next_command("ip -brief address")
    };
    match (holder, &attachment.interface) {
        (None, _) => Some(failure(format!(
            "{field}.address: {address} is on no interface"
        ))),
        (Some(holder), Some(name)) if holder.name != *name => Some(failure(format!(
            "{field}.address: {address} is on {}, not on {name}",
            holder.name
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
            r#"[{"name": "lo", "addresses": ["127.0.0.1"]},
                {"name": "eth0", "addresses": ["fe80::1", "10.0.0.5"]}, {"name": "eth1"}]"#,
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
                    // What was not asked for cannot be lowered.
                    assert_eq!(
                        failure.remedy_text().contains("cluster.max_hypervisor_mtu"),
                        failure.what.contains("cluster.max_hypervisor_mtu")
                    );
                }
                (found, said) => panic!("{found:?} {said:?}"),
            }
        }
    }

    #[test]
    fn the_mesh_is_measured_where_it_is() {
        let interfaces: Vec<Interface> = serde_json::from_str(
            r#"[{"name": "lo", "mtu": 65536},
                {"name": "eth1", "mtu": 1500, "addresses": ["10.0.0.5"]}]"#,
        )
        .unwrap();
        let found = |name: Option<&str>, address: Option<&str>| {
            let mesh = Attachment {
                address: address.map(|text| text.parse().unwrap()),
                interface: name.map(str::to_owned),
            };
            mesh_interface(&mesh, &interfaces).and_then(|interface| interface.mtu)
        };
        assert_eq!(found(Some("eth1"), None), Some(1500));
        assert_eq!(found(None, Some("10.0.0.5")), Some(1500));
        assert_eq!(found(Some("eth2"), Some("10.0.0.5")), None);
        assert_eq!(found(None, None), None);
        for (mtu, wanted, said) in [
            (1500, None, vec!["needs 2000"]),
            (2000, None, vec![]),
            (8950, Some(8950), vec![]),
            (8950, Some(9000), vec!["max_hypervisor_mtu says 9000"]),
            (
                1500,
                Some(8000),
                vec!["needs 2000", "max_hypervisor_mtu says 8000"],
            ),
        ] {
            let found = too_small("eth1", mtu, wanted);
            assert_eq!(found.len(), said.len(), "{mtu} {wanted:?}");
            for (failure, said) in found.iter().zip(said) {
                assert!(failure.what.contains(said), "{}", failure.what);
                // What was not asked for cannot be lowered.
                assert_eq!(
                    failure.remedy_text().contains("cluster.max_hypervisor_mtu"),
                    failure.what.contains("cluster.max_hypervisor_mtu")
                );
            }
        }
    }
}
