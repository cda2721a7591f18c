//! The release's command as a child: what it is told, how long it may take,
//! what is said of its end.

use std::time::Duration;

use sf_command::Cmd;
use sf_contract::metadata::node::NodeMetadata;
use sf_contract::metadata::value::SettingText;
use sf_contract::secret::mask_urls;

use crate::codes;
use crate::configure::settings;
use crate::failure::Failure;
use crate::image::Image;
use crate::paths::Paths;

/// Migrations of large tables copy them. Who is stopped in one has to begin
/// again, so this is for commands that hang.
const LIMIT: Duration = Duration::from_mins(30);

#[derive(Debug)]
pub(super) struct SchemaCommand {
    line: String,
    command: Cmd,
}

impl SchemaCommand {
    pub(super) fn new(
        paths: &Paths,
        image: &Image,
        metadata: &NodeMetadata,
        argv: &[String],
    ) -> Self {
        let (program, arguments) = argv
            .split_first()
            .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
        // A clean environment: nothing of the agent's own, and of its secrets
        // those of the database alone.
        let mut command = paths
            .program(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .timeout(LIMIT);
        for (key, value) in settings::for_schema_command(image, metadata) {
            if let SettingText::Secret(secret) = &value {
                command = command.secret(secret.expose());
            }
            command = command.env(key, value.expose());
        }
        if let Some(password) = metadata.database.dsn.password() {
            command = command.secret(password.expose());
        }
        Self {
            line: argv.join(" "),
            command,
        }
    }

    /// As a person would type it.
    pub(super) fn shown(&self) -> &str {
        &self.line
    }

    /// Runs it to its end, with its lines in the log; else how it ended.
    pub(super) fn run(&self) -> Result<(), String> {
        let ran = self
            .command
            .run_streaming(|line| tracing::info!(command = self.line, "{}", mask_urls(line)));
        match ran {
            Ok(elapsed) => {
                tracing::info!(seconds = elapsed.as_secs(), "{} has ended", self.line);
                Ok(())
            }
            Err(failure) => Err(mask_urls(&how(&failure))),
        }
    }

    pub(super) fn failure(&self, what: &str) -> Failure {
        Failure::new(
            &codes::SCHEMA_COMMAND,
            format!("the release's command for its tables {what}"),
        )
        .value(&self.line)
        .source("release descriptor of the image")
        .next_command("journalctl -b -u sf-firstboot")
    }
}

/// Without the command's own line, which holds its whole environment.
fn how(failure: &sf_command::Failure) -> String {
    use sf_command::Failure::{CouldNotStart, Exit, Signal, Timeout};
    let end = match failure {
        Exit { code, .. } => format!("it ended with exit code {code}"),
        Signal { signal, .. } => format!("it was ended by signal {signal}"),
        Timeout { limit, .. } => format!("it was ended after {} minutes", limit.as_secs() / 60),
        CouldNotStart { source, .. } => format!("it could not be started: {source}"),
        other => return other.to_string(),
    };
    match failure.stderr() {
        "" => end,
        said => format!("{end}: {said}"),
    }
}
