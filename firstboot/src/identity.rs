//! Which instance this is: another one after the disk was cloned or the
//! machine changed, the same one after a reboot or an update. And which
//! machine: the same one after its disk was made anew, too.

use sha2::{Digest as _, Sha256};

use crate::paths::Paths;
use crate::read;

/// Has the machine an identity of its own, by its disk or by its hardware? All
/// those without one would be taken for one machine.
pub fn is_known(paths: &Paths) -> bool {
    let machine_id = read::text(&paths.at("/etc/machine-id")).unwrap_or_default();
    // What systemd writes until it has made one (machine-id(5)).
    let made = !matches!(machine_id.trim(), "" | "uninitialized");
    made || hardware_id(paths).is_some()
}

/// The instance's identity, 32 hex digits: a hash of the machine-id (which is
/// itself confidential) and the machine's product UUID, where it has one.
pub fn instance_id(paths: &Paths) -> String {
    let read = |path: &str| {
        read::text(&paths.at(path))
            .map(|text| text.trim().to_ascii_lowercase())
            .unwrap_or_default()
    };
    let mut hash = Sha256::new();
    hash.update("sf-firstboot instance\n");
    hash.update(read("/etc/machine-id"));
    hash.update("\n");
    hash.update(read("/sys/class/dmi/id/product_uuid"));
    hex::encode(&hash.finalize()[..16])
}

/// What stands in the cluster's tables for this machine: the instance's
/// identity and, where the firmware has one, the hardware's after a slash.
/// Both are hashes; see [`same_machine`].
pub fn machine_id(paths: &Paths) -> String {
    let instance = instance_id(paths);
    match hardware_id(paths) {
        Some(hardware) => format!("{instance}/{hardware}"),
        None => instance,
    }
}

/// Are two values of [`machine_id`] of one machine? A disk that was made anew
/// has another instance on the same hardware; a copied disk has the same
/// machine-id on other hardware, and so another instance and other hardware.
pub fn same_machine(one: &str, other: &str) -> bool {
    fn parts(id: &str) -> (&str, Option<&str>) {
        id.split_once('/')
            .map_or((id, None), |(instance, hardware)| {
                (instance, Some(hardware))
            })
    }
    let ((instance, hardware), (other, other_hardware)) = (parts(one), parts(other));
    instance == other || (hardware.is_some() && hardware == other_hardware)
}

/// Hash of the product UUID; `None` where the firmware has none, or one of
/// those that makers of boards and emulators leave in all their products.
fn hardware_id(paths: &Paths) -> Option<String> {
    const NOT_SET: [&str; 4] = [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
    ];
    let uuid = read::text(&paths.at("/sys/class/dmi/id/product_uuid")).ok()?;
    let uuid = uuid.trim().to_ascii_lowercase();
    if uuid.is_empty() || NOT_SET.contains(&uuid.as_str()) {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update("sf-firstboot hardware\n");
    hash.update(uuid);
    Some(hex::encode(&hash.finalize()[..16]))
}

/// The kernel's id of this boot; empty where there is none.
pub fn boot_id(paths: &Paths) -> String {
    read::text(&paths.at("/proc/sys/kernel/random/boot_id"))
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_another_instance() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let dmi = paths.at("/sys/class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        std::fs::create_dir_all(paths.at("/etc")).unwrap();
        std::fs::write(paths.at("/etc/machine-id"), "abc\n").unwrap();
        std::fs::write(dmi.join("product_uuid"), "AA\n").unwrap();
        let first = instance_id(&paths);
        assert_eq!((first.len(), first.contains("abc")), (32, false));
        std::fs::write(dmi.join("product_uuid"), "aa\n").unwrap();
        assert_eq!(instance_id(&paths), first, "case does not matter");
        std::fs::write(dmi.join("product_uuid"), "bb\n").unwrap();
        assert_ne!(instance_id(&paths), first);
    }

    #[test]
    fn a_machine_is_known_by_its_hardware_or_its_disk() {
        let machine = |machine_id: &str, uuid: Option<&str>| {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::under(dir.path());
            std::fs::create_dir_all(paths.at("/etc")).unwrap();
            std::fs::write(paths.at("/etc/machine-id"), machine_id).unwrap();
            if let Some(uuid) = uuid {
                let dmi = paths.at("/sys/class/dmi/id");
                std::fs::create_dir_all(&dmi).unwrap();
                std::fs::write(dmi.join("product_uuid"), uuid).unwrap();
            }
            super::machine_id(&paths)
        };
        let zero = Some("00000000-0000-0000-0000-000000000000");
        let first = machine("abc", Some("aa"));
        assert_eq!(first.len(), 65);
        for (other, same, what) in [
            (machine("abc", Some("AA\n")), true, "itself"),
            (machine("new", Some("aa")), true, "a new disk"),
            (machine("abc", Some("bb")), false, "a copied disk"),
            (machine("new", Some("bb")), false, "another machine"),
            (
                machine("abc", None),
                false,
                "a copied disk without firmware",
            ),
            (first[..32].to_owned(), true, "a row of an older agent"),
        ] {
            assert_eq!(same_machine(&first, &other), same, "{what}");
            assert_eq!(same_machine(&other, &first), same, "{what}");
        }
        // Where the firmware says nothing, only the disk tells machines apart.
        let plain = machine("abc", zero);
        assert_eq!(plain.len(), 32);
        assert!(same_machine(&plain, &machine("abc", zero)));
        assert!(!same_machine(&plain, &machine("new", zero)));
    }
}
