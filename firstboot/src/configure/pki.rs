//! Installs the certificates and keys of `[pki]`: under `/etc/pki/sf` for this
//! node, and where libvirt's qemu.conf points for the SPICE consoles.

use sf_contract::metadata::node::Pki;
use sf_contract::role::Role;
use sf_contract::secret::Secret;

use crate::write::Access;

/// The node's own.
pub const NODE: &str = "/etc/pki/sf";
/// Those of SPICE consoles, by the names that QEMU looks for.
pub const SPICE: &str = "/etc/pki/libvirt-spice";

/// One file to install.
#[derive(Debug)]
pub struct File<'p> {
    /// Where.
    pub path: String,
    /// PEM.
    pub content: &'p Secret,
    /// For whom.
    pub access: Access,
}

/// What the metadata gives a node of that role, as files: consoles are served
/// where instances run. `qemu` is the group that QEMU's
/// processes have, which must read the key of their consoles: as a member of
/// it and not as everybody.
pub fn files(pki: &Pki, role: Role, qemu: Option<u32>) -> Vec<File<'_>> {
    let private = Access {
        mode: 0o640,
        group: qemu.unwrap_or(0),
    };
    let spice = &pki.libvirt_spice;
    [
        (NODE, "ca.pem", &pki.ca, Access::PUBLIC),
        (NODE, "certificate.pem", &pki.certificate, Access::PUBLIC),
        (NODE, "key.pem", &pki.key, Access::PRIVATE),
        (SPICE, "ca-cert.pem", &spice.ca, Access::PUBLIC),
        (SPICE, "server-cert.pem", &spice.certificate, Access::PUBLIC),
        (SPICE, "server-key.pem", &spice.key, private),
    ]
    .into_iter()
    .filter(|(folder, ..)| *folder != SPICE || role.runs_instances())
    .filter_map(|(folder, name, content, access)| {
        Some(File {
            path: format!("{folder}/{name}"),
            content: content.as_ref()?,
            access,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sf_contract::metadata::node::SpicePki;

    #[test]
    fn keys_are_readable_for_those_who_serve_with_them_alone() {
        let pki = Pki {
            ca: Some(Secret::new("ca")),
            certificate: Some(Secret::new("certificate")),
            key: Some(Secret::new("key")),
            libvirt_spice: SpicePki {
                ca: Some(Secret::new("spice ca")),
                certificate: Some(Secret::new("spice certificate")),
                key: Some(Secret::new("spice key")),
            },
        };
        let listed = |role| -> Vec<String> {
            files(&pki, role, Some(64055))
                .iter()
                .map(|file| {
                    let Access { mode, group } = file.access;
                    format!("{mode:o} 0:{group} {} {}", file.path, file.content.expose())
                })
                .collect()
        };
        let all = listed(Role::Hypervisor);
        insta::assert_snapshot!(all.join("\n"), @"
        644 0:0 /etc/pki/sf/ca.pem ca
        644 0:0 /etc/pki/sf/certificate.pem certificate
        600 0:0 /etc/pki/sf/key.pem key
        644 0:0 /etc/pki/libvirt-spice/ca-cert.pem spice ca
        644 0:0 /etc/pki/libvirt-spice/server-cert.pem spice certificate
        640 0:64055 /etc/pki/libvirt-spice/server-key.pem spice key
        ");
        assert_eq!(listed(Role::SingleNode), all);
        for role in [Role::Network, Role::DatabaseTier] {
            assert_eq!(listed(role), all[..3], "{role}");
        }
        assert!(files(&Pki::default(), Role::Hypervisor, None).is_empty());
    }
}
