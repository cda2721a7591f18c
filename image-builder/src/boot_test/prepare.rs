//! What must be there before a run: tools, firmware, free ports, images. All
//! that is missing is named together.

use camino::{Utf8Path, Utf8PathBuf};
use sf_command::Tool;

use super::infra;
use super::qemu::Firmware;
use super::scenario::{ImageChoice, Scenario, Tamper};

/// What a run needs, found.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The firmware.
    pub firmware: Firmware,
    /// The image of each machine, in the scenario's order.
    pub images: Vec<Utf8PathBuf>,
}

/// Finds everything, or says everything that is missing, one line each.
pub fn prepare(scenario: &Scenario, images: &Utf8Path) -> Result<Ready, Vec<String>> {
    let mut missing: Vec<String> = sf_command::missing(&tools(scenario))
        .iter()
        .map(|tool| format!("the program {tool}"))
        .collect();
    let firmware = Firmware::find();
    if firmware.is_none() && !scenario.machines.is_empty() {
        missing.push("the virtual machines' firmware OVMF_CODE_4M.fd: package ovmf".to_owned());
    }
    if scenario.etcd && !infra::is_free(infra::ETCD_PORT) {
        missing.push(format!(
            "port {} on 127.0.0.1: something listens there, and Shaken Fist 0.7 knows no other \
             port for etcd; stop it",
            infra::ETCD_PORT
        ));
    }
    if let Some(port) = scenario.mariadb.and_then(|mariadb| mariadb.port)
        && !infra::is_free(port)
    {
        missing.push(format!(
            "port {port} on 127.0.0.1 for MariaDB: something listens there"
        ));
    }
    let mut found = Vec::new();
    for machine in &scenario.machines {
        match image(&machine.image, images) {
            Ok(path) => found.push(path),
            Err(reason) => missing.push(format!("the image of {}: {reason}", machine.name)),
        }
    }
    match firmware {
        Some(firmware) if missing.is_empty() => Ok(Ready {
            firmware,
            images: found,
        }),
        None if missing.is_empty() => Ok(Ready {
            firmware: Firmware {
                code: Utf8PathBuf::new(),
                variables: Utf8PathBuf::new(),
            },
            images: found,
        }),
        _ => {
            missing.dedup();
            Err(missing)
        }
    }
}

fn tools(scenario: &Scenario) -> Vec<Tool> {
    let mut tools = vec![Tool::Cp];
    if !scenario.machines.is_empty() {
        tools.push(Tool::QemuSystemX86);
    }
    if scenario.mariadb.is_some() {
        tools.extend([Tool::Mariadbd, Tool::MariadbInstallDb]);
    }
    if scenario.etcd {
        tools.push(Tool::Etcd);
    }
    for machine in &scenario.machines {
        if machine.is_sealed() {
            tools.extend([Tool::SystemdCreds, Tool::Sfdisk]);
        }
        if scenario.searches(&machine.name) {
            tools.extend([Tool::Sfdisk, Tool::Debugfs, Tool::Journalctl]);
        }
        match machine.tamper {
            Some(Tamper::File(_)) => tools.extend([Tool::Sfdisk, Tool::DumpErofs]),
            Some(Tamper::Superblock) => tools.push(Tool::Sfdisk),
            None => {}
        }
    }
    tools
}

/// The raw disk of an image: the file itself, or the newest one of a profile,
/// `IMAGES/PROFILE/VERSION/sf-PROFILE_VERSION.raw`.
fn image(choice: &ImageChoice, images: &Utf8Path) -> Result<Utf8PathBuf, String> {
    match choice {
        ImageChoice::File(file) if file.is_file() => Ok(file.clone()),
        ImageChoice::File(file) => Err(format!("{file} is not there")),
        ImageChoice::Profile(profile) => {
            let folder = images.join(profile);
            newest(&folder, profile).ok_or_else(|| {
                format!("no image below {folder}; build it: make image PROFILE={profile}")
            })
        }
    }
}

fn newest(folder: &Utf8Path, profile: &str) -> Option<Utf8PathBuf> {
    let entries = folder.read_dir_utf8().ok()?;
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name();
            // `.partial-*` is a build under way, `latest` would be a link.
            if version.starts_with('.') || entry.path().is_symlink() {
                return None;
            }
            let raw = entry.path().join(format!("sf-{profile}_{version}.raw"));
            let manifest = entry.path().join("manifest.json");
            // The manifest is published last, so its time is the image's.
            let time = fs_err::metadata(manifest).ok()?.modified().ok()?;
            raw.is_file().then_some((time, raw))
        })
        .max()
        .map(|(_, raw)| raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_image_of_a_profile_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let images = Utf8Path::from_path(folder.path()).unwrap();
        let choice = ImageChoice::Profile("network".into());
        let error = image(&choice, images).unwrap_err();
        assert!(error.contains("make image PROFILE=network"), "{error}");
        for (version, complete) in [("1", true), ("2", true), ("3", false), (".partial-4", true)] {
            let folder = images.join("network").join(version);
            fs_err::create_dir_all(&folder).unwrap();
            fs_err::write(folder.join(format!("sf-network_{version}.raw")), "").unwrap();
            if complete {
                fs_err::write(folder.join("manifest.json"), "{}").unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(
            image(&choice, images).unwrap(),
            images.join("network/2/sf-network_2.raw")
        );
    }
}
