//! `sf-image list`.

use std::fmt::Write as _;

use serde_json::json;

use super::RootArg;
use crate::error::Report;

/// List the profiles and releases that there are
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    root: RootArg,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<String, Report> {
        let (_, checked) = self.root.open_checked()?;
        let profiles = checked.profiles.values().map(|profile| {
            let resolved = checked.resolved.get(&profile.name);
            (profile, resolved)
        });
        if self.json {
            let profiles: Vec<_> = profiles
                .map(|(profile, resolved)| {
                    json!({
                        "name": profile.name,
                        "summary": profile.summary,
                        "extends": profile.extends.as_ref().map(|parent| &parent.value),
                        "role": resolved.map(|resolved| resolved.role),
                        "buildable": resolved.is_some(),
                    })
                })
                .collect();
            let releases: Vec<_> = checked
                .releases
                .values()
                .map(|release| {
                    json!({
                        "name": release.name,
                        "summary": release.summary,
                        "version": release.version,
                        "series": release.series,
                        "predecessor": release.predecessor,
                        "daemons": release.daemons.iter().map(|daemon| &daemon.unit).collect::<Vec<_>>(),
                    })
                })
                .collect();
            return Ok(super::document(
                json!({ "profiles": profiles, "releases": releases }),
            ));
        }
        let mut text = String::from("Profiles:\n");
        for (profile, resolved) in profiles {
            let mark = if resolved.is_some() {
                ""
            } else {
                " (not built)"
            };
            let _ = writeln!(text, "  {:<14} {}{mark}", profile.name, profile.summary);
        }
        text.push_str("Releases:\n");
        for release in checked.releases.values() {
            let _ = writeln!(text, "  {:<14} {}", release.name, release.summary);
        }
        Ok(text)
    }
}
