//! The network interfaces of this machine, as the kernel tells them.

use std::net::IpAddr;

use serde::Deserialize;

use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::read;

/// What stands for the kernel's answer where a folder stands for the node.
const IN_FOLDER: &str = "/run/interfaces.json";

/// One interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`.
    pub name: String,
    /// The largest packet that it carries, in bytes; `None` where the kernel
    /// does not say.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Its addresses of both families.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// All that are there now, in the order of their names.
pub fn read(paths: &Paths) -> Result<Vec<Interface>, Failure> {
    let given = paths.at(IN_FOLDER);
    if paths.is_this_machine() || !given.exists() {
        return of_kernel().map_err(|error| impossible(&error));
    }
    let text = read::text(&given).map_err(|error| impossible(&error))?;
    serde_json::from_str(&text).map_err(|error| impossible(&error))
}

fn impossible(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        &codes::CHECK_IMPOSSIBLE,
        "the addresses of this node cannot be asked",
    )
    .cause(error)
    .next_command("ip -brief address")
}

fn of_kernel() -> std::io::Result<Vec<Interface>> {
    let mut all: Vec<Interface> = Vec::new();
    // An entry for each address, and one for the link itself.
    for entry in nix::ifaddrs::getifaddrs()? {
        let name = without_label(&entry.interface_name);
        let known = all.iter().position(|one| one.name == name);
        let at = known.unwrap_or_else(|| {
            all.push(Interface {
                mtu: mtu(name),
                name: name.to_owned(),
                addresses: Vec::new(),
            });
            all.len() - 1
        });
        let address = entry.address.and_then(|address| {
            address
                .as_sockaddr_in()
                .map(|four| IpAddr::V4(four.ip()))
                .or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
        });
        all[at].addresses.extend(address);
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// glibc gives an address that has a label (`eth0:1`) that in place of its
/// interface's name, in which the kernel allows no colon.
fn without_label(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

/// An interface may go away between the two questions.
fn mtu(name: &str) -> Option<u32> {
    let text = read::text(std::path::Path::new(&format!("/sys/class/net/{name}/mtu"))).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_label_is_on_its_interface() {
        for (name, interface) in [
            ("eth0", "eth0"),
            ("eth0:1", "eth0"),
            ("br-a.5:x:y", "br-a.5"),
        ] {
            assert_eq!(without_label(name), interface);
        }
    }

    #[test]
    fn the_kernel_tells_of_the_loopback() {
        let folder = tempfile::tempdir().unwrap();
        for paths in [Paths::default(), Paths::under(folder.path())] {
            let all = read(&paths).unwrap();
            let loopback = all.iter().find(|one| one.name == "lo").unwrap();
            assert!(
                loopback.addresses.contains(&IpAddr::from([127, 0, 0, 1])),
                "{loopback:?}"
            );
            assert!(loopback.mtu.is_some_and(|mtu| mtu > 1500), "{loopback:?}");
        }
    }

    #[test]
    fn a_folder_may_have_interfaces_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let file = paths.at(IN_FOLDER);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(
            &file,
            r#"[{"name": "eth0", "mtu": 9000, "addresses": ["10.0.0.5"]}, {"name": "eth1"}]"#,
        )
        .unwrap();
        let all = read(&paths).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].addresses, [IpAddr::from([10, 0, 0, 5])]);
        std::fs::write(&file, "[").unwrap();
        assert_eq!(read(&paths).unwrap_err().code.id, "SF-CHECK-IMPOSSIBLE");
    }
}
