//! `sf-image boot-test`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use sf_contract::failure::Kind;

use super::RootArg;
use crate::boot_test::{self, Options, accel};
use crate::cache::Cache;
use crate::error::Report;

/// Boot images in virtual machines and check what must hold
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario file, such as tests/boot/first-boot.toml
    #[arg(long, value_name = "FILE")]
    scenario: Utf8PathBuf,
    /// Folder with the images, as `build` makes it; of each profile the newest is booted
    #[arg(long, value_name = "DIR", default_value = "out")]
    images: Utf8PathBuf,
    /// Folder for the machines' disks and logs, 1 to 2 GiB each [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<Utf8PathBuf>,
    #[command(flatten)]
    root: RootArg,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let options = match self.options() {
            Ok(options) => options,
            Err(report) => return super::finish(self.json, Err(report)),
        };
        // With --json standard output is the result alone.
        let json = self.json;
        let mut narrate = |line: &str| {
            if json {
                let _ = writeln!(std::io::stderr(), "{line}");
            } else {
                let _ = super::write(&format!("{line}\n"));
            }
        };
        match boot_test::run(&options, &mut narrate) {
            Ok(report) => {
                let text = if json {
                    super::document(serde_json::json!(report))
                } else {
                    String::new()
                };
                super::print(&text, ExitCode::from(u8::from(!report.is_good())))
            }
            Err(error) => {
                let report = Report::new(Kind::Environment, &error);
                super::failed(json, &report, error.exit_code())
            }
        }
    }

    fn options(&self) -> Result<Options, Report> {
        let utf8 = |path: PathBuf| {
            Utf8PathBuf::from_path_buf(path).map_err(|path| {
                Report::text(
                    Kind::Usage,
                    format!("the path {} is not UTF-8", path.display()),
                )
            })
        };
        // A scenario given by its name in the checkout is found from anywhere.
        let mut scenario = self.scenario.clone();
        let here = std::env::current_dir().unwrap_or_default();
        if !scenario.exists()
            && scenario.is_relative()
            && let Ok(root) = crate::checkout::find(self.root.root.as_deref(), &here)
        {
            let inside = utf8(root.join(scenario.as_std_path()))?;
            if inside.exists() {
                scenario = inside;
            }
        }
        Ok(Options {
            scenario,
            images: self.images.clone(),
            cache: utf8(Cache::from_env()?.root().join("boot-test"))?,
            work: self
                .work_dir
                .clone()
                .map_or_else(|| utf8(std::env::temp_dir()), Ok)?,
            accel: std::env::var(accel::VARIABLE).ok(),
        })
    }
}
