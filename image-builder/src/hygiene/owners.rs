//! Which package a file of an image belongs to, by the package database that is
//! in the image.

use std::collections::BTreeMap;

use super::{Entry, Kind};

/// What the files that were looked at say about owners.
#[derive(Debug, Default)]
pub struct Owners {
    files: BTreeMap<String, String>,
}

impl Owners {
    /// Takes in `info/<package>.list` of the package database.
    pub(super) fn learn(&mut self, entry: &Entry<'_>) {
        let Some((folder, name)) = entry.path.rsplit_once('/') else {
            return;
        };
        let database = folder.ends_with("dpkg/info");
        let Some(package) = name
            .strip_suffix(".list")
            .filter(|_| database && entry.kind == Kind::File)
        else {
            return;
        };
        // "libc6:amd64" is libc6.
        let package = package.split(':').next().unwrap_or(package);
        for line in String::from_utf8_lossy(entry.content).lines() {
            self.files.insert(merged(line), package.to_owned());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.files.extend(other.files);
    }

    /// Does a package of the distribution bring the path?
    pub(super) fn is_packaged(&self, path: &str) -> bool {
        self.files.contains_key(&merged(path))
    }

    /// Whose a path is.
    pub fn of(&self, path: &str) -> String {
        if let Some(package) = self.files.get(&merged(path)) {
            return format!("package {package}");
        }
        if let Some((_, inside)) = path.split_once("/site-packages/") {
            let module = inside.split(['/', '-']).next().unwrap_or(inside);
            return format!("the Python package {module}");
        }
        "no package: mkosi.extra/, the profile, the release, or a package's script".to_owned()
    }
}

/// The path with /bin, /lib and /sbin under /usr, as Debian has had them since
/// its folders were merged; package lists still name both.
fn merged(path: &str) -> String {
    for folder in ["/bin/", "/sbin/", "/lib/", "/lib64/"] {
        if path.starts_with(folder) {
            return format!("/usr{path}");
        }
    }
    path.to_owned()
}

/// Names of the installed packages in dpkg's status file.
pub fn installed(status: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(status);
    let mut packages = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        if field("Status:").is_some_and(|status| status.ends_with(" installed"))
            && let Some(package) = field("Package:")
        {
            packages.push(package.to_owned());
        }
    }
    packages
}
