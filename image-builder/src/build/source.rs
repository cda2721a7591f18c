//! The commit that a checkout stands at.

use std::path::Path;

use sf_command::{Cmd, Tool};

/// A commit, as far as git knows one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Commit {
    /// Its hash, with `-dirty` when files differ from it.
    pub(super) id: Option<String>,
    /// How many commits lead to it; 0 without git.
    pub(super) number: u32,
}

impl Commit {
    /// Asks git. A checkout without git (an installed builder, an archive) has
    /// no commit, which is no mistake.
    pub(super) fn of(root: &Path) -> Self {
        // Builds run as root over a checkout that often belongs to somebody
        // else, which git refuses unless told that it is meant.
        let git = |args: &[&str]| {
            let output = Cmd::new(Tool::Git)
                .args(["-c", "safe.directory=*"])
                .args(args)
                .cwd(root)
                .run();
            output.ok().map(|output| output.text())
        };
        // The folder of a checkout that is itself inside something else's
        // repository has no commit of its own.
        let top = git(&["rev-parse", "--show-toplevel"]);
        let own = top.is_some_and(|top| {
            fs_err::canonicalize(root).is_ok_and(|root| root == Path::new(&top))
        });
        let Some(id) = git(&["rev-parse", "HEAD"]).filter(|_| own) else {
            return Self::default();
        };
        let changed = git(&["status", "--porcelain"]).is_none_or(|status| !status.is_empty());
        let number = git(&["rev-list", "--count", "HEAD"]).and_then(|count| count.parse().ok());
        let id = if changed { format!("{id}-dirty") } else { id };
        Self {
            id: Some(id),
            number: number.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_git_says() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(Commit::of(dir.path()), Commit::default());
        let git = |args: &[&str]| {
            let identity = [
                "-c",
                "user.name=x",
                "-c",
                "user.email=x@example.com",
                "-c",
                "commit.gpgsign=false",
            ];
            Cmd::new(Tool::Git)
                .args(identity)
                .args(args)
                .cwd(dir.path())
                .run()
                .expect("git");
        };
        git(&["init", "--quiet"]);
        git(&["commit", "--quiet", "--allow-empty", "--message=one"]);
        let clean = Commit::of(dir.path());
        assert_eq!(
            (clean.number, clean.id.as_ref().map(String::len)),
            (1, Some(40))
        );
        fs_err::write(dir.path().join("new"), "").expect("write");
        let dirty = Commit::of(dir.path());
        assert_eq!(dirty.id, clean.id.map(|id| format!("{id}-dirty")));
        let below = dir.path().join("below");
        fs_err::create_dir(&below).expect("mkdir");
        assert_eq!(Commit::of(&below), Commit::default());
    }
}
