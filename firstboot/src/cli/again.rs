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
    /// systemd runs it, again and again where that helps.
    by_a_unit: bool,
}

impl Again {
    /// Of a command that systemd runs.
    pub(super) fn by_a_unit() -> Self {
        Self {
            by_a_unit: true,
            ..Self::default()
        }
    }

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
        if !self.by_a_unit
            && let Some(remedy) = once(failure.remedy_text())
        {
            failure.remedy = Some(remedy);
        }
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

/// Remedies are written for the agent on its node, which keeps trying; a command
/// has given up. `None` where a remedy says nothing of that.
fn once(remedy: &str) -> Option<String> {
    let start = KEEPS_TRYING.iter().find_map(|words| remedy.find(words))?;
    let (head, clause) = remedy.split_at(start);
    // The rest of that sentence goes with it: "since DNS may only be late".
    let after = clause.get(1..).unwrap_or_default();
    let rest = after.split_once(". ").map_or("", |(_, rest)| rest.trim());
    let head = head.trim();
    let mut said = if head.is_empty() || head == "Nothing" {
        String::new()
    } else {
        format!("{}. ", head.trim_end_matches('.'))
    };
    if !rest.is_empty() {
        said.push_str(rest.trim_end_matches('.'));
        said.push_str(". ");
    }
    said.push_str(if said.is_empty() {
        "Run this again."
    } else {
        "Then run this again."
    });
    Some(said)
}

/// How remedies say it, from where the sentence may end.
const KEEPS_TRYING: [&str; 8] = [
    ", and the agent here keeps ",
    "; the agent keeps ",
    "; the agent here keeps ",
    "; the agent and the unit keep ",
    "; this node keeps ",
    ", so the agent keeps ",
    " The agent keeps ",
    "The agent keeps ",
];

const GRANTS: &str = "`sf-firstboot grants --role ";

fn option(name: &str, file: &Path) -> String {
    format!(" {name} {}", quote(&file.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn a_command_does_not_keep_trying() {
        for (remedy, said) in [
            (
                "Start MariaDB; the agent keeps trying.",
                "Start MariaDB. Then run this again.",
            ),
            (
                "Check the name; the agent keeps trying, since DNS may only be late.",
                "Check the name. Then run this again.",
            ),
            ("Nothing; the agent keeps trying.", "Run this again."),
            (
                "The agent keeps trying. If there is none, switch it off.",
                "If there is none, switch it off. Then run this again.",
            ),
            (
                "Boot it on db2; the last one makes them, and the agent here keeps looking. One \
                 that is off: forget it.",
                "Boot it on db2; the last one makes them. One that is off: forget it. Then run \
                 this again.",
            ),
            (
                "DNS may only be late, so the agent keeps trying.",
                "DNS may only be late. Then run this again.",
            ),
            (
                "Set the clock. The agent keeps trying.",
                "Set the clock. Then run this again.",
            ),
            (
                "It migrates them when it boots; the agent keeps looking. By hand: sf-ctl x",
                "It migrates them when it boots. By hand: sf-ctl x. Then run this again.",
            ),
        ] {
            let failure = |again: &Again| {
                let mut failure = Failure::new(&codes::DB_REFUSED, "x").remedy(remedy);
                again.failure(&mut failure);
                failure.remedy_text().to_owned()
            };
            assert_eq!(failure(&Again::default()), said);
            assert_eq!(failure(&Again::by_a_unit()), remedy);
        }
    }

    /// In no code's own words does a command promise what only the agent does.
    #[test]
    fn no_code_promises_a_person_to_keep_trying() {
        for code in codes::ALL {
            let mut failure = Failure::new(code, "x");
            Again::default().failure(&mut failure);
            let said = failure.remedy_text();
            assert!(!said.contains("keep"), "{}: {said}", code.id);
        }
    }

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
