//! Which instance this is: another one after the disk was cloned or the
//! machine changed, the same one after a reboot or an update.

use fs_err as fs;
use sha2::{Digest as _, Sha256};

use crate::paths::Paths;

/// The instance's identity, 32 hex digits: a hash of the machine-id (which is
/// itself confidential) and the machine's product UUID, where it has one.
pub fn instance_id(paths: &Paths) -> String {
    let read = |path: &str| {
        fs::read_to_string(paths.at(path))
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

/// The kernel's id of this boot; empty where there is none.
pub fn boot_id(paths: &Paths) -> String {
    fs::read_to_string(paths.at("/proc/sys/kernel/random/boot_id"))
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
}
