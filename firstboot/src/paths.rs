//! Where everything is. All paths hang under one root, so that tests run the
//! whole agent without touching the machine that they run on.

use std::path::{Path, PathBuf};

use sf_command::{Cmd, Tool};

/// The places that the agent reads and writes.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::under("/")
    }
}

impl Paths {
    /// All places under `root`; `/` is this machine.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Is this the running machine, rather than a folder that stands for one?
    pub fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An absolute path of the node, under the root.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The path as the node knows it, for messages.
    pub fn shown<'p>(&self, path: &'p Path) -> std::borrow::Cow<'p, str> {
        match path.strip_prefix(&self.root) {
            Ok(rest) if !self.is_this_machine() => format!("/{}", rest.display()).into(),
            _ => path.to_string_lossy(),
        }
    }

    /// What the image is.
    pub fn manifest(&self) -> PathBuf {
        self.at(sf_contract::manifest::IN_IMAGE)
    }

    /// What the Shaken Fist release in the image needs.
    pub fn release(&self) -> PathBuf {
        self.at(sf_contract::release::IN_IMAGE)
    }

    /// A file of the agent's own that survives reboots.
    pub fn state(&self, name: &str) -> PathBuf {
        self.at("/var/lib/sf-firstboot").join(name)
    }

    /// A file of the agent's own that is gone after a reboot.
    pub fn runtime(&self, name: &str) -> PathBuf {
        self.at("/run/sf-firstboot").join(name)
    }

    /// What Shaken Fist's daemons read.
    pub fn config(&self) -> PathBuf {
        self.at("/etc/sf/config")
    }

    /// A system program. Under another root it is the one in that root, so
    /// that a test never acts on the machine that it runs on.
    pub fn tool(&self, tool: Tool) -> Cmd {
        if self.is_this_machine() {
            Cmd::new(tool)
        } else {
            Cmd::path(self.at("/usr/bin").join(tool.program()))
        }
    }

    /// A program of the image by its absolute path.
    pub fn program(&self, absolute: &str) -> Cmd {
        if self.is_this_machine() {
            Cmd::path(absolute)
        } else {
            Cmd::path(self.at(absolute))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_under_the_root() {
        let paths = Paths::under("/x");
        assert_eq!(paths.config(), Path::new("/x/etc/sf/config"));
        assert_eq!(paths.shown(&paths.config()), "/etc/sf/config");
        assert_eq!(
            paths.tool(Tool::Systemctl).to_string(),
            "/x/usr/bin/systemctl"
        );
        let paths = Paths::default();
        assert_eq!(paths.shown(&paths.config()), "/etc/sf/config");
        assert_eq!(paths.tool(Tool::Systemctl).to_string(), "systemctl");
    }
}
