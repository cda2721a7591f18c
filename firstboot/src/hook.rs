//! The release's helper for the system key: puts the key into the store that
//! the release itself reads (0.7: etcd) and changes nothing when it matches.

use std::time::Duration;

use sf_contract::metadata::node::NodeMetadata;

use crate::codes;
use crate::failure::Failure;
use crate::image::Image;
use crate::paths::Paths;

/// A helper that waits for its store has its own, shorter limit.
const LIMIT: Duration = Duration::from_mins(2);

/// Exit code by which the helper says that its store cannot be reached.
const UNREACHABLE: i32 = 75;

/// Runs the helper where the release has one, the role bootstraps and the
/// metadata gives a key. Returns what it said: `created`, `updated`, `unchanged`.
pub fn system_key(
    paths: &Paths,
    image: &Image,
    metadata: &NodeMetadata,
) -> Result<Option<String>, Failure> {
    let (Some(argv), Some(key)) = (
        &image.release.hooks.system_key,
        &metadata.secrets.system_key,
    ) else {
        return Ok(None);
    };
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(None);
    };
    let name = &metadata.secrets.system_key_name;
    // A clean environment: nothing of the agent's own, credentials least of all.
    let command = paths
        .program(program)
        .args(arguments)
        .arg(name)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .stdin(key.expose().as_bytes())
        .secret(key.expose())
        .timeout(LIMIT);
    match command.run() {
        Ok(output) => {
            let said = output.text();
            let said = said.lines().last().unwrap_or_default().trim().to_owned();
            if !["created", "updated", "unchanged"].contains(&said.as_str()) {
                return Err(failed(name, program).remedy(format!(
                    "The helper should have said created, updated or unchanged. This is a defect of the release's {program}: report it."
                )));
            }
            tracing::info!(
                name,
                outcome = said,
                "system key in the release's own store"
            );
            Ok(Some(said))
        }
        Err(
            error @ sf_command::Failure::Exit {
                code: UNREACHABLE, ..
            },
        ) => Err(Failure::new(
            &codes::HOOK_UNREACHABLE,
            format!("the store for the system key \"{name}\" cannot be reached"),
        )
        .source(format!("helper {program} of the release"))
        .cause(&error)),
        Err(error) => Err(failed(name, program).cause(&error)),
    }
}

fn failed(name: &str, program: &str) -> Failure {
    Failure::new(
        &codes::HOOK_FAILED,
        format!("the helper for the system key \"{name}\" failed"),
    )
    .source(format!("helper {program} of the release"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use sf_contract::role::Role;

    fn run(script: &str) -> (tempfile::TempDir, Result<Option<String>, Failure>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let argv = testing::image(Role::DatabaseTier)
            .release
            .hooks
            .system_key
            .unwrap();
        testing::executable(&paths.at(&argv[0]), script);
        let metadata = testing::metadata("[secrets]\nsystem_key = \"marker-key-1\"\n");
        let result = system_key(&paths, &testing::image(Role::DatabaseTier), &metadata);
        (dir, result)
    }

    #[test]
    fn the_key_goes_by_stdin_and_the_name_by_argument() {
        let (dir, result) = run(
            "#!/bin/sh\nread key\necho \"$key|$*|$(/usr/bin/env | /usr/bin/sort | /usr/bin/tr '\\n' ,)\" > \"${0%/*}/seen\"\necho noise\necho created\n",
        );
        assert_eq!(result.unwrap().as_deref(), Some("created"));
        let seen = std::fs::read_to_string(testing::find(dir.path(), "seen")).unwrap();
        assert!(
            seen.starts_with("marker-key-1|system-key deploy|"),
            "{seen}"
        );
        assert!(!seen.contains("CARGO") && seen.contains("PATH="), "{seen}");
    }

    #[test]
    fn failures_are_told_apart_and_hold_no_key() {
        for (script, code) in [
            (
                "#!/bin/sh\nread key\necho \"no etcd for $key\" >&2\nexit 75\n",
                "SF-HOOK-UNREACHABLE",
            ),
            (
                "#!/bin/sh\nread key\necho \"traceback $key\" >&2\nexit 1\n",
                "SF-HOOK-FAILED",
            ),
            ("#!/bin/sh\necho fine\n", "SF-HOOK-FAILED"),
        ] {
            let (_dir, result) = run(script);
            let failure = result.unwrap_err();
            assert_eq!(failure.code.id, code);
            assert!(
                !serde_json::to_string(&failure)
                    .unwrap()
                    .contains("marker-key-1")
            );
        }
        // The reason, and not what its libraries had to say last.
        let noise = "for i in 1 2 3 4 5 6 7 8 9; do echo \"DEBUG urllib3.connectionpool closing connection $i, one of many that were opened, to 10.0.0.5:2379 by this program\" >&2; done";
        let failure = run(&format!(
            "#!/bin/sh\nread key\n{noise}\necho 'set-system-key: etcd is not set' >&2\n{noise}\nexit 78\n"
        ))
        .1
        .unwrap_err();
        assert!(
            failure.causes[0].ends_with("exit code 78: set-system-key: etcd is not set"),
            "{failure:?}"
        );
        let failure = run("#!/bin/sh\nread key\necho traceback >&2\nexit 1\n")
            .1
            .unwrap_err();
        assert!(failure.causes[0].contains("traceback"), "{failure:?}");
    }
}
