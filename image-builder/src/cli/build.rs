//! `sf-image build`.

use std::path::PathBuf;

use super::RootArg;
use crate::build::{self, Options, Request};
use crate::error::Report;
use crate::progress::Progress;

/// What `build` and `render` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The release of Shaken Fist, a folder under releases/
    #[arg(long, value_name = "NAME", default_value = "0.7")]
    pub(super) release: String,
    /// Your own wheel of Shaken Fist, for a release that takes one
    #[arg(long, value_name = "FILE")]
    pub(super) wheel: Option<PathBuf>,
    /// Version of the image [default: Shaken Fist's, and the number of commits in the checkout: 0.7.2-42]
    #[arg(long, value_name = "VERSION")]
    pub(super) image_version: Option<String>,
    /// A debug image: whoever has the console is root. The manifest and the console say so
    #[arg(long)]
    pub(super) debug: bool,
    /// Debian mirror [default: the one that this machine's apt uses]
    #[arg(long, value_name = "URL")]
    pub(super) mirror: Option<String>,
    /// A finished sf-firstboot [default: compiled from the checkout]
    #[arg(long, value_name = "FILE")]
    pub(super) agent: Option<PathBuf>,
    #[command(flatten)]
    pub(super) root: RootArg,
}

impl Common {
    pub(super) fn options(&self) -> Options {
        Options {
            release: self.release.clone(),
            wheel: self.wheel.clone(),
            image_version: self.image_version.clone(),
            debug: self.debug,
            mirror: self.mirror.clone(),
            agent: self.agent.clone(),
        }
    }
}

/// Build bootable images, one after another
///
/// Each becomes a folder DIR/PROFILE/VERSION with the disk image, the unified
/// kernel image, the partitions, manifest.json, SHA256SUMS, build.log and
/// timings.json. It appears whole or not at all; the previous image stays until
/// then. A build with nothing changed is answered from the image that is there.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A profile; give it several times for several images
    #[arg(long, value_name = "NAME", required = true)]
    profile: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Where images go
    #[arg(long, value_name = "DIR", default_value = "out")]
    output_dir: PathBuf,
    /// Build even when nothing changed
    #[arg(long)]
    force: bool,
    /// Print one JSON object: folders, manifests, seconds per phase, what was cached
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<String, Report> {
        let (checkout, checked) = self.common.root.open_checked()?;
        let options = self.common.options();
        let request = Request {
            checkout: &checkout,
            checked: &checked,
            options: &options,
        };
        let progress = Progress::stderr();
        let outcome = build::build(
            &request,
            &self.profile,
            &self.output_dir,
            self.force,
            &progress,
        )?;
        if self.json {
            return Ok(super::document(serde_json::json!(outcome)));
        }
        let folders: Vec<String> = outcome
            .images
            .iter()
            .map(|image| image.folder.display().to_string())
            .collect();
        Ok(folders.join("\n") + "\n")
    }
}
