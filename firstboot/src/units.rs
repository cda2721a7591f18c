//! Starts the daemons, and stops what this image no longer runs.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use sf_command::Tool;

use crate::codes;
use crate::failure::Failure;
use crate::gate::Clearance;
use crate::image::Image;
use crate::paths::Paths;
use crate::state::unwritable;
use crate::write;

/// systemd answers at once, unless it is in trouble.
const LIMIT: Duration = Duration::from_mins(1);

/// The agent's own services, which are no daemons.
const AGENT: [&str; 4] = [
    "sf-firstboot.service",
    // It stays active, and sf.target does not stop it.
    "sf-hostname.service",
    "sf-ready.service",
    "sf-report.service",
];

/// Where an operator or an earlier image may have enabled units.
const ENABLED: &str = "/etc/systemd/system";

/// The target that wants the daemons.
const WANTS: &str = "sf.target.wants";

/// Queues `sf.target`. It cannot wait for it: the daemons are ordered after
/// the unit that this process is. The clearance is what only the gate gives.
pub fn start(paths: &Paths, image: &Image, _cleared: &Clearance) -> Result<(), Failure> {
    leave(paths, image)?;
    systemctl(paths, &["start", "--no-block", "sf.target"]).map_err(|error| {
        Failure::new(&codes::UNITS_START, "systemd refused to start sf.target").cause(&error)
    })
}

/// The daemons that are started, in their order.
pub fn wanted(image: &Image) -> Vec<String> {
    image
        .manifest
        .daemons
        .iter()
        .map(|daemon| format!("{daemon}.service"))
        .collect()
}

/// Stops daemons that this image's role does not have, and forgets that they
/// were ever enabled.
fn leave(paths: &Paths, image: &Image) -> Result<(), Failure> {
    let wanted = |unit: &str| image.manifest.daemons.iter().any(|daemon| daemon == unit);
    if disable(paths, image)? {
        // Or systemd would still start what it read before.
        systemctl(paths, &["daemon-reload"]).map_err(|error| {
            Failure::new(&codes::UNITS_START, "systemd did not read its units again").cause(&error)
        })?;
    }
    let strangers: Vec<String> = image
        .release
        .daemons
        .iter()
        .filter(|daemon| !wanted(&daemon.unit))
        .map(|daemon| format!("{}.service", daemon.unit))
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["stop", "--no-block"];
    arguments.extend(strangers.iter().map(String::as_str));
    if let Err(error) = systemctl(paths, &arguments) {
        // Units that are not in this image cannot be stopped, and need not be.
        tracing::debug!(cause = %error, "nothing to stop");
    }
    Ok(())
}

/// Removes the links that enable daemons which this image does not run, and
/// units of an earlier image which are not there any more; true if any went.
fn disable(paths: &Paths, image: &Image) -> Result<bool, Failure> {
    let ours = |unit: &str| {
        image
            .release
            .daemons
            .iter()
            .any(|daemon| daemon.unit == unit)
    };
    let wanted = |unit: &str| image.manifest.daemons.iter().any(|daemon| daemon == unit);
    let mut any = false;
    for folder in entries(&paths.at(ENABLED)) {
        let name = folder.file_name();
        let name = name.to_string_lossy();
        if !name.ends_with(".wants") && !name.ends_with(".requires") {
            continue;
        }
        for link in entries(&folder.path()) {
            let file = link.file_name();
            let file = file.to_string_lossy();
            let unit = file.trim_end_matches(".service");
            if !file.starts_with("sf-") || wanted(unit) {
                continue;
            }
            // The target is the daemons' alone; elsewhere there are other units
            // of ours, such as the agent itself.
            let dangles = fs::read_link(link.path())
                .is_ok_and(|to| to.is_absolute() && !paths.at(&to.to_string_lossy()).exists());
            if name == WANTS || ours(unit) || dangles {
                any |= write::remove(&link.path()).map_err(|error| unwritable(&error))?;
                tracing::info!(unit = %file, "no longer enabled: this image does not run it");
            }
        }
    }
    Ok(any)
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Asks systemd to bless the boot, where the boot loader counts this boot and
/// an earlier failure of the agent has taken the request for it back.
pub fn bless(paths: &Paths) {
    let counted = ["generator.early", "generator", "generator.late"]
        .iter()
        .any(|folder| {
            let link =
                format!("/run/systemd/{folder}/basic.target.wants/systemd-bless-boot.service");
            paths.at(&link).symlink_metadata().is_ok()
        });
    if counted
        && let Err(error) = systemctl(
            paths,
            &["start", "--no-block", "systemd-bless-boot.service"],
        )
    {
        tracing::warn!(cause = %error, "the boot could not be marked as good");
    }
}

/// A unit's state as systemd shows it, `active (running)`; `None` when it cannot be asked.
pub fn state(paths: &Paths, unit: &str) -> Option<String> {
    let output = paths
        .tool(Tool::Systemctl)
        .args([
            "show",
            "--property=ActiveState,SubState,NRestarts",
            "--",
            unit,
        ])
        .timeout(Duration::from_secs(5))
        .run()
        .ok()?;
    let text = output.text();
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_default()
            .to_owned()
    };
    let (active, sub, restarts) = (value("ActiveState"), value("SubState"), value("NRestarts"));
    let restarted = match restarts.as_str() {
        "" | "0" => String::new(),
        count => format!(", restarted {count} times"),
    };
    (!active.is_empty()).then(|| format!("{active} ({sub}{restarted})"))
}

/// Services of Shaken Fist that are not down, whatever the image says of them.
pub fn running(paths: &Paths) -> Result<Vec<String>, sf_command::Failure> {
    let output = paths
        .tool(Tool::Systemctl)
        .args([
            "list-units",
            "--plain",
            "--no-legend",
            "--full",
            "--state=active,reloading,activating,deactivating",
            "--",
            "sf-*.service",
        ])
        .timeout(LIMIT)
        .run()?;
    Ok(output
        .text()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|unit| !AGENT.contains(unit))
        .map(str::to_owned)
        .collect())
}

/// The last lines of a unit's journal of this boot.
pub fn journal_tail(paths: &Paths, unit: &str, lines: usize) -> Vec<String> {
    let count = lines.to_string();
    let output = paths
        .tool(Tool::Journalctl)
        .args([
            "--boot",
            "--no-pager",
            "--output=cat",
            "--lines",
            &count,
            "--unit",
            unit,
        ])
        .timeout(Duration::from_secs(5))
        .run();
    output
        .map(|output| output.text().lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn systemctl(paths: &Paths, arguments: &[&str]) -> Result<(), sf_command::Failure> {
    paths
        .tool(Tool::Systemctl)
        .args(arguments)
        .timeout(LIMIT)
        .run()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or `reset` would take it for a daemon that runs, for ever.
    #[test]
    fn all_services_of_the_image_that_are_no_daemons_are_known() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../mkosi.extra/usr/lib/systemd/system");
        let mut ours: Vec<String> = entries(&folder)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("sf-") && name.ends_with(".service"))
            .collect();
        ours.sort();
        assert_eq!(ours, AGENT);
    }
}
