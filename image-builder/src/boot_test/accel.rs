//! Which accelerator works here, found out by booting.
//!
//! A `/dev/kvm` that opens, and even runs small code, may still not run a
//! stock kernel; so the image's own kernel is started on a throw-away copy and
//! must reach its initrd within a few seconds.

use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::console;
use super::machine::{read_console, write_private};
use super::qemu::{self, Accel, Firmware};

/// Overrides the probe: `kvm` or `tcg`.
pub const VARIABLE: &str = "SF_BOOT_TEST_ACCEL";

/// What real hardware needs for firmware, boot loader and kernel is 3 s.
const LIMIT: Duration = Duration::from_secs(15);

/// The accelerator in use and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The accelerator.
    pub accel: Accel,
    /// Why this one.
    pub reason: String,
    /// Machines have one processor, whatever the scenario says.
    #[serde(default)]
    pub one_processor: bool,
}

/// The first QEMU whose emulator runs kernels on several processors safely.
/// Before it, one processor may execute code that another is just patching,
/// and the kernel dies of a breakpoint at any time (`Oops: int3`).
const SAFE_EMULATOR: (u32, u32) = (8, 1);

impl Choice {
    /// The choice with what QEMU's version, as it tells it, means for it.
    #[must_use]
    pub fn with_version(mut self, told: &str) -> Self {
        let version = version(told);
        if self.accel == Accel::Tcg && version.is_some_and(|version| version < SAFE_EMULATOR) {
            self.one_processor = true;
            self.reason.push_str(
                "; one processor per machine, since before QEMU 8.1 the emulator loses races \
                 between several",
            );
        }
        self
    }
}

/// Major and minor version in `QEMU emulator version 7.2.22 (Debian …)`.
fn version(told: &str) -> Option<(u32, u32)> {
    let (_, version) = told.split_once("version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A choice, remembered until the host reboots.
#[derive(Serialize, Deserialize)]
struct Remembered {
    host_boot: String,
    choice: Choice,
}

/// Chooses an accelerator: as the environment says, as remembered below
/// `cache`, or by booting `image` in `scratch`, a folder that may be made.
pub fn choose(
    wanted: Option<&str>,
    image: &Utf8Path,
    firmware: &Firmware,
    cache: &Utf8Path,
    scratch: &Utf8Path,
) -> Result<Choice, String> {
    match wanted {
        Some("kvm") => return Ok(given(Accel::Kvm)),
        Some("tcg") => return Ok(given(Accel::Tcg)),
        Some("") | None => {}
        Some(other) => return Err(format!("{VARIABLE}={other}: not \"kvm\" or \"tcg\"")),
    }
    let memory = cache.join("boot-test-accel.json");
    let host_boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if let Some(choice) = remembered(&memory, &host_boot) {
        return Ok(choice);
    }
    let choice = match probe(image, firmware, scratch) {
        Ok(seconds) => Choice {
            accel: Accel::Kvm,
            reason: format!("the image's kernel reached its initrd on KVM in {seconds:.1} s"),
            one_processor: false,
        },
        Err(reason) => Choice {
            accel: Accel::Tcg,
            reason: format!("emulation, because {reason}"),
            one_processor: false,
        },
    };
    let remembered = Remembered {
        host_boot,
        choice: choice.clone(),
    };
    // Only time is lost when it cannot be remembered.
    let _ = fs_err::create_dir_all(cache)
        .and_then(|()| fs_err::write(&memory, serde_json::to_string(&remembered)?));
    Ok(choice)
}

fn given(accel: Accel) -> Choice {
    Choice {
        accel,
        reason: format!("{VARIABLE}={}", accel.name()),
        one_processor: false,
    }
}

fn remembered(memory: &Utf8Path, host_boot: &str) -> Option<Choice> {
    let text = fs_err::read_to_string(memory).ok()?;
    let remembered: Remembered = serde_json::from_str(&text).ok()?;
    let mut choice = remembered.choice;
    choice
        .reason
        .push_str(" (found out earlier since this host booted)");
    (remembered.host_boot == host_boot && !host_boot.is_empty()).then_some(choice)
}

/// Seconds until the image's kernel reached its initrd on KVM, or why not.
fn probe(image: &Utf8Path, firmware: &Firmware, scratch: &Utf8Path) -> Result<f64, String> {
    let failed = |error: std::io::Error| error.to_string();
    fs_err::create_dir_all(scratch).map_err(failed)?;
    let disk = scratch.join("disk.raw");
    super::disk::throw_away_copy(image, &disk, 0).map_err(|error| error.to_string())?;
    let result = boot(firmware, scratch, &disk);
    fs_err::remove_dir_all(scratch).map_err(failed)?;
    result
}

fn boot(firmware: &Firmware, scratch: &Utf8Path, disk: &Utf8Path) -> Result<f64, String> {
    let failed = |error: std::io::Error| error.to_string();
    let variables = scratch.join("variables.fd");
    fs_err::copy(&firmware.variables, &variables).map_err(failed)?;
    let arguments: Utf8PathBuf = scratch.join("smbios");
    let text = qemu::kernel_arguments("console=ttyS0 ignore_loglevel");
    write_private(&arguments, text.as_bytes()).map_err(failed)?;
    let machine = qemu::Machine {
        name: "probe".to_owned(),
        accel: Accel::Kvm,
        memory: 1024,
        cpus: 1,
        firmware: firmware.code.clone(),
        variables,
        disk: disk.to_owned(),
        address: std::net::Ipv4Addr::new(10, 0, 2, 15),
        forward: Vec::new(),
        folder: scratch.to_owned(),
        drives: Vec::new(),
        smbios: vec![arguments],
        fw_cfg: Vec::new(),
    };
    let mut child = machine
        .command()
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        let log = read_console(scratch);
        if console::initrd_runs(&log) {
            return Ok(start.elapsed().as_secs_f64());
        }
        if console::died_before_initrd(&log) {
            return Err("on KVM the image's kernel dies".to_owned());
        }
        if child
            .try_wait()
            .map_err(|error| error.to_string())?
            .is_some()
        {
            let said = fs_err::read_to_string(scratch.join("qemu.log")).unwrap_or_default();
            let said = console::last_words(&said, 1).join(" ");
            return Err(format!("QEMU does not run on KVM: {said}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let seconds = LIMIT.as_secs();
    Err(format!(
        "on KVM the image's kernel does not reach its initrd within {seconds} s"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_emulators_get_one_processor() {
        let told = |version| format!("QEMU emulator version {version} (Debian 1:x)\nCopyright");
        let one = |accel, version| given(accel).with_version(&told(version)).one_processor;
        assert!(one(Accel::Tcg, "7.2.22"));
        assert!(one(Accel::Tcg, "8.0.5"));
        assert!(!one(Accel::Tcg, "8.1.0"));
        assert!(!one(Accel::Tcg, "10.0.2"));
        assert!(!one(Accel::Kvm, "7.2.22"));
        assert!(!given(Accel::Tcg).with_version("?").one_processor);
    }

    #[test]
    fn the_environment_decides_and_memory_lasts_for_a_boot_of_the_host() {
        let firmware = Firmware {
            code: "/c".into(),
            variables: "/v".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let choose = |wanted| choose(wanted, "/image".into(), &firmware, cache, &cache.join("s"));
        assert_eq!(choose(Some("tcg")).unwrap().accel, Accel::Tcg);
        assert_eq!(choose(Some("kvm")).unwrap().accel, Accel::Kvm);
        assert!(choose(Some("xen")).unwrap_err().contains("xen"));

        let memory = cache.join("m.json");
        let choice = given(Accel::Kvm);
        let text = serde_json::to_string(&Remembered {
            host_boot: "b1".into(),
            choice,
        })
        .unwrap();
        fs_err::write(&memory, text).unwrap();
        assert_eq!(remembered(&memory, "b1").unwrap().accel, Accel::Kvm);
        assert_eq!(remembered(&memory, "b2"), None);
    }
}
