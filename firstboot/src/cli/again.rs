//! Commands that a failure offers next, with the options that the caller gave:
//! pasted as they stand, they must be about the same files.

use std::path::{Path, PathBuf};

use sf_command::quote;
use sf_contract::role::Role;

use crate::card::Card;
use crate::failure::Failure;

/// The caller's options, as a shell takes them; each with a space in front.
#[derive(Clone, Debug, Default)]
pub(super) struct Again {
    metadata: String,
    database: String,
    image: String,
    release: String,
}

impl Again {
    /// Of a command that is about these files of metadata.
    pub(super) fn of_metadata(files: &[PathBuf]) -> Self {
        let metadata: String = files
            .iter()
            .map(|file| option("--metadata", file))
            .collect();
        Self {
            database: metadata.clone(),
            metadata,
            ..Self::default()
        }
    }

    /// The database is named by a file of its own.
    pub(super) fn database_file(mut self, file: Option<&Path>) -> Self {
        if let Some(file) = file {
            self.database = option("--database-file", file);
        }
        self
    }

    /// What stands for the image.
    pub(super) fn image(
        mut self,
        manifest: Option<&Path>,
        release: Option<&Path>,
        role: Option<Role>,
    ) -> Self {
        self.release = release
            .map(|file| option("--release-descriptor", file))
            .unwrap_or_default();
        self.image = manifest
            .map(|file| option("--manifest", file))
            .unwrap_or_default()
            + &self.release
            + &role
                .map(|role| format!(" --role {role}"))
                .unwrap_or_default();
        self
    }

    /// A card of such failures.
    pub(super) fn card(&self, mut card: Card) -> Card {
        for failure in &mut card.findings {
            self.failure(failure);
        }
        card
    }

    /// A failure that was written for the node itself.
    pub(super) fn failure(&self, failure: &mut Failure) {
        if let Some(command) = &mut failure.next_command {
            *command = self.command(command);
        }
        // What a database user needs depends on the release.
        if !self.release.is_empty() && failure.remedy_text().contains(GRANTS) {
            let with = format!("`sf-firstboot grants{} --role ", self.release);
            failure.remedy = Some(failure.remedy_text().replace(GRANTS, &with));
        }
    }

    fn command(&self, command: &str) -> String {
        let Some(words) = command.strip_prefix("sf-firstboot ") else {
            return command.to_owned();
        };
        let options = match words.split_once(' ').unwrap_or((words, "")) {
            ("check", _) => format!("{}{}", self.metadata, self.image),
            ("explain", topic) if !topic.starts_with("SF-") => self.metadata.clone(),
            ("cluster", _) => self.database.clone(),
            _ => String::new(),
        };
        format!("{command}{options}")
    }
}

const GRANTS: &str = "`sf-firstboot grants --role ";

fn option(name: &str, file: &Path) -> String {
    format!(" {name} {}", quote(&file.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn what_is_offered_is_about_the_same_files() {
        let desk = Again::of_metadata(&["cluster.toml".into(), "my node.toml".into()]).image(
            None,
            Some(Path::new("r/release.toml")),
            Some(Role::Network),
        );
        let both = "--metadata cluster.toml --metadata 'my node.toml'";
        let image = "--release-descriptor r/release.toml --role network";
        for (command, options) in [
            ("sf-firstboot check", &*format!(" {both} {image}")),
            ("sf-firstboot explain node.name", &*format!(" {both}")),
            ("sf-firstboot cluster status", &*format!(" {both}")),
            ("sf-firstboot explain SF-DB-AUTH", ""),
            ("sf-firstboot status", ""),
            ("ip -brief link", ""),
        ] {
            assert_eq!(desk.command(command), format!("{command}{options}"));
            assert_eq!(Again::default().command(command), command);
        }
        let dsn = Again::default().database_file(Some(Path::new("dsn")));
        assert_eq!(
            dsn.command("sf-firstboot cluster status"),
            "sf-firstboot cluster status --database-file dsn"
        );
        let mut failure = Failure::new(&codes::DB_GRANTS, "x")
            .remedy("`sf-firstboot grants --role network --user 'sf'` prints it.");
        desk.failure(&mut failure);
        assert_eq!(
            failure.remedy_text(),
            "`sf-firstboot grants --release-descriptor r/release.toml --role network --user 'sf'` prints it."
        );
    }
}
