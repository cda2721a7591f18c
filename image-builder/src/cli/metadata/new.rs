//! `sf-image metadata new`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sf_contract::failure::Kind;
use sf_contract::metadata::template::template;

use super::super::RootArg;
use crate::error::Report;
use crate::metadata::judge::judge;
use crate::metadata::{Audience, read};

/// Write a commented template for a node: all fields that there are
///
/// What the node needs stands there with "<fill in>", which `metadata check`
/// and the node refuse; what it can have is commented out, with its default.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The profile of the node's image
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// The release of Shaken Fist in the node's image
    #[arg(long, value_name = "NAME", default_value = "0.7")]
    release: String,
    /// The node's fully qualified name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where to write it, readable for its owner alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file when it is there
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    root: RootArg,
}

impl Args {
    pub(super) fn run(self) -> Result<String, Report> {
        let (_, checked) = self.root.open_checked()?;
        let release = super::release(&checked, &self.release)?;
        let role = super::role(&checked, &self.profile)?;
        if let Some(node) = &self.node {
            let verdict = judge(
                read::sources(&[], Some(node))?,
                release,
                &Audience::Role(role),
            );
            let wrong = |field: &str| field == "node.name";
            if let Some(found) = verdict
                .problems
                .iter()
                .find(|finding| wrong(&finding.problem.field))
            {
                let problem = &found.problem;
                return Err(
                    Report::text(Kind::Usage, format!("--node: {}", problem.message))
                        .hint(problem.hint.clone()),
                );
            }
        }
        let text = template(release, role, self.node.as_deref());
        let Some(output) = &self.output else {
            return Ok(text);
        };
        write(output, &text, self.force)?;
        Ok(format!("{}\n", output.display()))
    }
}

/// Writes the file whole, for its owner alone.
fn write(output: &Path, text: &str, force: bool) -> Result<(), Report> {
    let failed = |error: std::io::Error| {
        Report::new(Kind::Environment, &error).hint(Some("name another file with --output"))
    };
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    let kept = if force {
        file.persist(output)
    } else {
        file.persist_noclobber(output)
    };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(Report::text(
            Kind::Usage,
            format!("{} is there already", output.display()),
        )
        .hint(Some("--force replaces it"))),
        Err(error) => Err(failed(error.error)),
    }
}
