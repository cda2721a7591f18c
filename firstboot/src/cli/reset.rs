//! `sf-firstboot reset`: this node forgets that it has ever booted.

use clap::Args;
use fs_err as fs;

use super::confirm::Question;
use super::{Outcome, need_root, print};
use crate::codes;
use crate::configure::ledger;
use crate::engine::lock;
use crate::failure::Failure;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::state::unwritable;
use crate::units;

/// Makes this node's next boot a first boot: forgets markers, clearance, kept metadata, its cluster.
///
/// Removes what is in /var/lib/sf-firstboot and /run/sf-firstboot, but for the list of the
/// files that the agent wrote: the next run removes those that it does not want. Instances, disks and
/// everything else under /srv stay, and so does the database: for that there is
/// `cluster forget`. Refused while daemons run.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        need_root(paths)?;
        refuse_under_daemons(paths)?;
        Question {
            what: "This node forgets that it has booted: the next boot is a first boot",
            warnings: &[],
            name: "reset",
            yes: self.yes,
            force: false,
        }
        .ask()?;
        let _alone = lock::take(paths).map_err(under_way)?;
        // While the question stood, a run may have ended well and started them.
        refuse_under_daemons(paths)?;
        // The clearance first: with it gone, nothing starts from half a reset.
        let mut removed = 0;
        for folder in [paths.runtime(""), paths.state("")] {
            removed += empty(&folder).map_err(|error| unwritable(&error))?;
        }
        print(&format!(
            "reset: {removed} files removed. The next boot, or `systemctl restart sf-firstboot`, \
             is a first boot\n"
        ))?;
        Ok(())
    }
}

/// A reset under running daemons would leave them without a clearance.
fn refuse_under_daemons(paths: &Paths) -> Result<(), Failure> {
    let running = running(paths)?;
    if running.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        &codes::DAEMONS_RUN,
        format!("daemons run on this node: {}", running.join(", ")),
    )
    .next_command("systemctl stop sf.target"))
}

/// A run that waits is begun anew for ever: nobody can wait for its end.
fn under_way(failure: Failure) -> Failure {
    const STOP: &str = "systemctl stop sf-firstboot";
    if failure.code.id != codes::BUSY.id {
        return failure;
    }
    failure
        .remedy(format!("End it, and what it would try again: {STOP}"))
        .next_command(STOP)
}

/// Daemons that are not down. Where it cannot be told, an error.
fn running(paths: &Paths) -> Result<Vec<String>, Failure> {
    let image = match Image::read(paths, &Given::default()) {
        Ok(image) => image,
        Err(unread) => {
            tracing::warn!(
                code = unread.code.id,
                "which daemons this image has cannot be told, so systemd is asked for all: {unread}"
            );
            return units::running(paths).map_err(|error| {
                untold(&unread.to_string(), "systemctl list-units 'sf-*'").cause(&error)
            });
        }
    };
    let mut running = Vec::new();
    for daemon in &image.release.daemons {
        let unit = format!("{}.service", daemon.unit);
        let state = units::state(paths, &unit).ok_or_else(|| {
            untold(
                &format!("systemd does not say how {unit} is"),
                &format!("systemctl show {unit}"),
            )
        })?;
        if !state.starts_with("inactive") && !state.starts_with("failed") {
            running.push(unit);
        }
    }
    Ok(running)
}

fn untold(why: &str, command: &str) -> Failure {
    Failure::new(
        &codes::DAEMONS_RUN,
        format!("whether daemons run on this node cannot be told: {why}"),
    )
    .remedy(format!(
        "Mend systemd or the image first: `{command}` must answer. Where systemd does not come \
         back, reboot."
    ))
    .next_command(command)
}

/// Removes everything in a folder but the lock that is held, and the list of
/// files that are still there; how many files.
fn empty(folder: &std::path::Path) -> std::io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if [lock::FILE, ledger::FILE]
            .iter()
            .any(|kept| entry.file_name() == *kept)
        {
            continue;
        }
        if entry.file_type()?.is_dir() {
            removed += empty(&entry.path())?;
            fs::remove_dir(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
