//! Checks of the machine itself. Skipped at a desk, which is another machine.

use sf_contract::role::Role;

use super::{Context, Found};
use crate::codes;
use crate::failure::Failure;
use crate::identity;

/// State, logs and the daemons' start need about a tenth of this.
const ROOM: u64 = 256 << 20;

/// Shaken Fist's daemons with all roles take 1049 MiB, the system under them
/// the rest; a machine sold as 2 GiB has a little less.
const MEMORY: u64 = 1900;

/// What tells this machine from others, and a copied disk from the first.
pub(super) fn identity(context: &Context<'_>) -> Found {
    if identity::is_known(context.paths) {
        return Found::passed();
    }
    let failure = Failure::new(
        &codes::MACHINE_ID,
        "this machine has neither a machine-id nor a product UUID: nothing tells it from others",
    )
    .source("/etc/machine-id")
    .next_command("ls -lZ /etc/machine-id; findmnt /etc");
    Found::Failed {
        findings: vec![failure],
    }
}

/// Room on the file systems that hold state.
pub(super) fn disk_space(context: &Context<'_>) -> Result<Found, Failure> {
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

/// Memory for the daemons and, on a hypervisor, for what is to run there.
pub(super) fn memory(context: &Context<'_>) -> Result<Found, Failure> {
    let text = proc(context, "/proc/meminfo")?;
    let Some(total) = total_memory(&text) else {
        return Ok(Found::skipped(
            "/proc/meminfo does not say how much there is",
        ));
    };
    let reserved = context.node.metadata().node.reservations.ram_gb;
    Ok(match scarce(total, reserved) {
        None => Found::noted(format!("{total} MiB")),
        Some(failure) => Found::Failed {
            findings: vec![failure],
        },
    })
}

/// MiB of `MemTotal`.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib >> 10)
}

fn scarce(total: u64, reserved: Option<u32>) -> Option<Failure> {
    let reserved = u64::from(reserved.unwrap_or(0)) << 10;
    let failure = |what: String, source: &str, remedy: &str| {
        Failure::new(&codes::MEMORY_LOW, what)
            .value(format!("{total} MiB"))
            .source(source)
            .remedy(remedy)
            .next_command("free -m")
    };
    if total < MEMORY {
        Some(failure(
            format!("this node has {total} MiB of memory, and Shaken Fist's daemons need 2 GiB"),
            "/proc/meminfo",
            "Give the node more memory; under less its daemons are killed when it matters most.",
        ))
    } else if reserved >= total {
        Some(failure(
            format!(
                "node.reservations.ram_gb keeps {reserved} MiB of this node's {total} MiB from instances: none can run here"
            ),
            "metadata field node.reservations.ram_gb",
            "Reserve less, or give the node more memory.",
        ))
    } else {
        None
    }
}

/// KVM, on nodes that run instances. Without it they run under emulation, many
/// times slower: of use for trials, and so no reason to stop.
pub(super) fn kvm(context: &Context<'_>) -> Result<Found, Failure> {
    let role = context.node.image.role();
    if !matches!(role, Role::Hypervisor | Role::SingleNode) {
        return Ok(Found::skipped(format!("a {role} node runs no instances")));
    }
    let cpuinfo = proc(context, "/proc/cpuinfo")?;
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open(context.paths.at("/dev/kvm"));
    Ok(match slow(&cpuinfo, device.err().as_ref()) {
        None => Found::passed(),
        Some(failure) => Found::Failed {
            findings: vec![failure],
        },
    })
}

fn slow(cpuinfo: &str, device: Option<&std::io::Error>) -> Option<Failure> {
    let flags = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|known| known == flag);
    let (virtualises, is_virtual) = (has("vmx") || has("svm"), has("hypervisor"));
    let (what, remedy) = match (virtualises, device) {
        (true, None) => return None,
        (false, _) if is_virtual => (
            "this node is a virtual machine whose processor offers no virtualisation",
            "Allow nested virtualisation on its host (kvm_intel or kvm_amd: nested=1, processor \
             model host), or expect instances to run many times slower.",
        ),
        (false, _) => (
            "this node's processor offers no virtualisation (neither vmx nor svm)",
            "Switch it on in the firmware (VT-x, AMD-V, SVM), or expect instances to run many \
             times slower.",
        ),
        (true, Some(_)) => (
            "the processor offers virtualisation, but /dev/kvm cannot be used",
            "Load the module (modprobe kvm_intel, or kvm_amd) and see why it does not load: \
             dmesg | grep -i kvm.",
        ),
    };
    let mut failure = Failure::new(&codes::KVM_MISSING, what)
        .source("/proc/cpuinfo and /dev/kvm")
        .remedy(remedy)
        .next_command("ls -l /dev/kvm; lscpu | grep -i virtual");
    failure.causes = device
        .map(|error| format!("/dev/kvm: {error}"))
        .into_iter()
        .collect();
    Some(failure)
}

fn proc(context: &Context<'_>, path: &str) -> Result<String, Failure> {
    crate::read::text(&context.paths.at(path)).map_err(|error| {
        Failure::new(&codes::CHECK_IMPOSSIBLE, format!("{path} cannot be read")).cause(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_judged_by_what_the_daemons_and_instances_need() {
        let total = total_memory("MemTotal:        2097152 kB\nMemFree: 1 kB\n");
        assert_eq!(total, Some(2048));
        assert_eq!(total_memory("nothing"), None);
        for (total, reserved, said) in [
            (2048, None, None),
            (1024, None, Some("need 2 GiB")),
            (8192, Some(4), None),
            (8192, Some(8), Some("none can run here")),
        ] {
            let found = scarce(total, reserved).map(|failure| failure.what);
            match (&found, said) {
                (None, None) => {}
                (Some(what), Some(said)) => assert!(what.contains(said), "{what}"),
                other => panic!("{total} {reserved:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn kvm_says_which_part_is_missing() {
        let absent = std::io::Error::from(std::io::ErrorKind::NotFound);
        for (flags, device, said) in [
            ("fpu vmx", None, None),
            ("fpu svm hypervisor", None, None),
            ("fpu", Some(&absent), Some("neither vmx nor svm")),
            (
                "fpu hypervisor",
                Some(&absent),
                Some("a virtual machine whose processor"),
            ),
            ("fpu vmx", Some(&absent), Some("/dev/kvm cannot be used")),
            // The device may be there and useless.
            ("fpu", None, Some("neither vmx nor svm")),
        ] {
            let found = slow(&format!("processor: 0\nflags\t\t: {flags}\n"), device);
            let what = found.map(|failure| failure.what);
            match (&what, said) {
                (None, None) => {}
                (Some(what), Some(said)) => assert!(what.contains(said), "{what}"),
                other => panic!("{flags}: {other:?}"),
            }
        }
    }
}
