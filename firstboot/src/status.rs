//! What the agent last did on this node, as a file: read by `sf-firstboot
//! status`, by monitoring, and by whoever is woken at night. Holds no secrets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metrics;
use crate::paths::Paths;
use crate::read;
use crate::write::{self, Access};

/// The file's name, in the state folder and in the runtime folder.
const FILE: &str = "status.json";

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A run is under way.
    #[default]
    Running,
    /// The daemons have been told to start.
    Started,
    /// The daemons answer.
    Ready,
    /// The run stopped; there is a card.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Started, Self::Ready, Self::Failed];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// How long a phase took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Its name.
    pub phase: String,
    /// Seconds.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code of the run.
    pub exit_code: u8,
    /// Code of the leading finding, of a run that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Phase that it ended in.
    pub phase: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
}

/// Everything that `status --json` shows. Fields that are not known are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this format.
    pub schema: u32,
    /// Node's name from its metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Role of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Image id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Image version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_version: Option<String>,
    /// Shaken Fist's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shakenfist_version: Option<String>,
    /// A debug image.
    #[serde(default)]
    pub debug: bool,
    /// Where the run is, or where it ended.
    pub state: State,
    /// Phase that it is in, or that it ended in.
    pub phase: String,
    /// What it is waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// A first boot that was cut short, resumed: when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<String>,
    /// What this run created in the cluster.
    #[serde(default)]
    pub created: Vec<String>,
    /// Daemons that answered.
    #[serde(default)]
    pub daemons: Vec<String>,
    /// Runs in this boot, this one included.
    #[serde(default)]
    pub attempts: u32,
    /// What each phase that has ended took, in their order.
    #[serde(default)]
    pub phases: Vec<Timed>,
    /// Boot that the run belongs to.
    pub boot_id: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Seconds that the run took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Exit code of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// While this run has not ended: how the last one in this boot did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Ended>,
    /// Code of the leading finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// All findings, as [`crate::failure::Failure`] serialises.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Value>,
    /// The card as the console had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
}

impl Status {
    /// How the last run that ended did: this one, or the one before.
    pub fn ended(&self) -> Option<Ended> {
        match self.exit_code {
            Some(exit_code) => Some(Ended {
                exit_code,
                code: self.code.clone(),
                phase: self.phase.clone(),
                finished_at: self.finished_at.clone(),
            }),
            None => self.last.clone(),
        }
    }

    /// What was last written: of this boot, or of an earlier one.
    pub fn read(paths: &Paths) -> Option<Self> {
        let read = |path: PathBuf| serde_json::from_str(&read::text(&path).ok()?).ok();
        read(paths.runtime(FILE)).or_else(|| read(paths.state(FILE)))
    }

    /// Writes where everybody may read it while the node is up, and, at the
    /// end of a run, where it survives a reboot.
    pub fn write(&self, paths: &Paths) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        write::atomically(&paths.runtime(FILE), &text, Access::PUBLIC)?;
        let metrics = metrics::render(self);
        write::atomically(
            &paths.runtime(metrics::FILE),
            metrics.as_bytes(),
            Access::PUBLIC,
        )?;
        if self.state != State::Running {
            write::atomically(&paths.state(FILE), &text, Access::PRIVATE)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_this_boot_comes_first_and_the_last_one_survives() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        assert_eq!(Status::read(&paths), None);
        let ended = Status {
            phase: "start".into(),
            state: State::Started,
            ..Status::default()
        };
        ended.write(&paths).unwrap();
        let running = Status {
            phase: "gate".into(),
            ..Status::default()
        };
        running.write(&paths).unwrap();
        assert_eq!(Status::read(&paths), Some(running));
        std::fs::remove_file(paths.runtime(FILE)).unwrap();
        assert_eq!(Status::read(&paths), Some(ended));
    }
}
