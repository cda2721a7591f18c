//! `sf-image render`.

use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_contract::failure::Kind;

use crate::build::{self, Request};
use crate::error::Report;

/// Write the complete mkosi folder of an image: plain `mkosi build` in it makes the same image
///
/// What goes into the image beside it (mkosi, its tools, the Python
/// environment, the agent) is brought into the cache first, as `build` does it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The profile
    #[arg(long, value_name = "NAME")]
    profile: String,
    #[command(flatten)]
    common: super::build::Common,
    /// Where to write it [default: out/rendered/PROFILE]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Write the configuration alone; needs neither root nor network, and cannot be built
    #[arg(long)]
    config_only: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<String, Report> {
        let (checkout, checked) = self.common.root.open_checked()?;
        let output = self
            .output_dir
            .unwrap_or_else(|| PathBuf::from("out/rendered").join(&self.profile));
        let output = std::path::absolute(&output).unwrap_or(output);
        may_replace(&output)?;
        let request = Request {
            checkout: &checkout,
            checked: &checked,
            options: &self.common.options(),
        };
        let (tree, mkosi) = if self.config_only {
            (build::render_config(&request, &self.profile)?, None)
        } else {
            let (tree, command) = build::render_complete(&request, &self.profile, &output)?;
            (tree, Some(command))
        };
        write(&tree, &output)?;
        let lines = [Some(output.display().to_string()), mkosi];
        Ok(lines
            .into_iter()
            .flatten()
            .map(|line| line + "\n")
            .collect())
    }
}

/// Only a folder that is empty, or that an earlier run wrote, is replaced.
fn may_replace(output: &Path) -> Result<(), Report> {
    let conf = output.join("mkosi.conf");
    let ours =
        fs::read_to_string(conf).is_ok_and(|text| text.starts_with("# Rendered by sf-image"));
    let empty = match fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if ours || empty {
        return Ok(());
    }
    Err(Report::text(
        Kind::Usage,
        format!(
            "{} is there already, and no earlier render made it",
            output.display()
        ),
    )
    .hint(Some("name another folder with --output-dir, or remove it")))
}

fn write(tree: &crate::tree::Tree, output: &Path) -> Result<(), Report> {
    let replace = || {
        crate::cache::remove_tree(output)?;
        fs::create_dir_all(output)?;
        tree.write(output)
    };
    replace().map_err(|error| Report::new(Kind::Environment, &error))
}
