//! By which way a credential came into this machine. systemd puts them all
//! into one folder; whoever has to mend one must know where it is made.

use fs_err as fs;

use super::{Places, kernel};
use crate::read;

const FW_CFG: &str = "opt/io.systemd.credentials";

/// The ways by which a credential of this name came, as far as the machine
/// still shows them; of several it is systemd that chose one.
pub(super) fn channel(places: &Places, name: &str) -> Option<String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let exists = |path: String| places.at(&path).symlink_metadata().is_ok();
    let mut ways = Vec::new();
    if exists(format!("/run/credentials/@encrypted/{name}")) {
        ways.push(format!("{name}.cred in the ESP"));
    }
    if exists(format!("/sys/firmware/qemu_fw_cfg/by_name/{FW_CFG}/{name}")) {
        ways.push(format!("fw_cfg of the virtual machine ({FW_CFG}/{name})"));
    }
    if by_firmware(places, name) {
        ways.push("SMBIOS, an OEM string (type 11)".into());
    }
    let line = read::bytes(&places.at("/proc/cmdline"), read::LIMIT).unwrap_or_default();
    let is_set = |(parameter, value): (String, Option<Vec<u8>>)| {
        let set = ["systemd.set_credential", "systemd.set_credential_binary"];
        set.contains(&parameter.as_str())
            && value.is_some_and(|value| {
                value.split(|byte| *byte == b':').next() == Some(name.as_bytes())
            })
    };
    if kernel::parameters(&line).into_iter().any(is_set) {
        ways.push("the kernel command line (systemd.set_credential)".into());
    }
    (!ways.is_empty()).then(|| ways.join(", and "))
}

fn by_firmware(places: &Places, name: &str) -> bool {
    let starts = ["", ".binary"].map(|kind| format!("io.systemd.credential{kind}:{name}="));
    let entries = fs::read_dir(places.at("/sys/firmware/dmi/entries"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("11-"))
        .filter_map(|entry| read::bytes(&entry.path().join("raw"), read::LIMIT).ok())
        .any(|raw| {
            // A header of five bytes, then the strings.
            raw.get(5..)
                .unwrap_or_default()
                .split(|byte| *byte == 0)
                .any(|string| {
                    starts
                        .iter()
                        .any(|start| string.starts_with(start.as_bytes()))
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_a_credential_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("run/credentials/@encrypted/a", b"");
        put(
            "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/b/raw",
            b"",
        );
        put(
            "sys/firmware/dmi/entries/11-0/raw",
            b"\x0b\x05\x00\x0b\x02io.systemd.credential:c=canary\0io.systemd.credential.binary:d=AA\0\0",
        );
        put(
            "proc/cmdline",
            b"quiet name=Z\xfcrich systemd.set_credential=e:canary systemd.set_credential_binary=b:AA\n",
        );
        let places = Places::under(folder.path());
        for (name, way) in [
            ("a", Some("a.cred in the ESP")),
            (
                "b",
                Some(
                    "fw_cfg of the virtual machine (opt/io.systemd.credentials/b), \
                     and the kernel command line (systemd.set_credential)",
                ),
            ),
            ("c", Some("SMBIOS, an OEM string (type 11)")),
            ("d", Some("SMBIOS, an OEM string (type 11)")),
            (
                "e",
                Some("the kernel command line (systemd.set_credential)"),
            ),
            ("canary", None),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(channel(&places, name).as_deref(), way, "{name}");
        }
    }
}
