//! mkosi configuration as a value.
//!
//! Owns: the closed list of settings that rendered files use, and their text
//! form. Refuses: any other setting (newer mkosi only warns about a name that
//! it does not know, so a typing error would pass unseen), and values that the
//! format cannot hold.

use std::fmt::Write as _;

macro_rules! settings {
    ($($section:ident { $($setting:ident: $about:literal,)+ })+) => {
        /// A setting of mkosi, named as mkosi names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Setting { $($(#[doc = $about] $setting,)+)+ }

        impl Setting {
            /// All of them, by section.
            pub const ALL: &'static [Self] = &[$($(Self::$setting,)+)+];

            /// The section it belongs to.
            pub fn section(self) -> &'static str {
                match self { $($(Self::$setting => stringify!($section),)+)+ }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $($(Self::$setting => stringify!($setting),)+)+ }
            }
        }
    };
}

settings! {
    Output {
        ImageId: "Name of the image, `sf-hypervisor`.",
        ImageVersion: "Its version.",
        Output: "Stem of the output files.",
        OutputDirectory: "Folder of the output files.",
        Seed: "UUID that partition and file system identifiers are derived from.",
    }
    Build {
        ToolsTree: "Folder with the programs that mkosi builds with.",
        SandboxTrees: "Files that the package manager sees: apt's sources.",
        CacheDirectory: "Where the installed base tree is kept between builds.",
        PackageCacheDirectory: "Where downloaded packages are kept.",
        WorkspaceDirectory: "Where mkosi works.",
    }
    Content {
        Packages: "Debian packages.",
        RemoveFiles: "Files of packages that the image does not keep.",
        ExtraTrees: "Trees that are copied over the installed packages.",
        KernelCommandLine: "Words of the kernel command line.",
        SourceDateEpoch: "Time of every file, seconds since 1970.",
    }
}

/// A configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    values: Vec<(Setting, Vec<String>)>,
}

impl Conf {
    /// Sets a single value.
    #[must_use]
    pub fn set(self, setting: Setting, value: impl Into<String>) -> Self {
        self.list(setting, [value.into()])
    }

    /// Sets a list; an empty one is left out, since an empty value would throw
    /// away what other files said.
    #[must_use]
    pub fn list(mut self, setting: Setting, values: impl IntoIterator<Item = String>) -> Self {
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            self.values.push((setting, values));
        }
        self
    }

    /// Every setting with its values, in the order in which they were set.
    pub fn values(&self) -> impl Iterator<Item = (Setting, &[String])> {
        self.values
            .iter()
            .map(|(setting, values)| (*setting, values.as_slice()))
    }

    /// The text of the file, after a comment.
    pub fn text(&self, comment: &str) -> String {
        let mut text = String::new();
        for line in comment.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let mut sections: Vec<&str> = Setting::ALL
            .iter()
            .map(|setting| setting.section())
            .collect();
        sections.dedup();
        for section in sections {
            let here: Vec<_> = self
                .values
                .iter()
                .filter(|(setting, _)| setting.section() == section)
                .collect();
            if here.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n[{section}]");
            for (setting, values) in here {
                if let [value] = values.as_slice() {
                    let _ = writeln!(text, "{}={}", setting.name(), escaped(value));
                } else {
                    let _ = writeln!(text, "{}=", setting.name());
                    for value in values {
                        let _ = writeln!(text, "        {}", escaped(value));
                    }
                }
            }
        }
        text
    }
}

/// mkosi expands `%x`. Line breaks cannot be written at all; whoever makes a
/// value has checked that there are none, and a blank is the harmless reading.
fn escaped(value: &str) -> String {
    value.replace(['\n', '\r'], " ")
}

/// A path or word in which mkosi is to expand nothing.
pub fn literal(value: &str) -> String {
    value.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_stand_once_and_lists_one_word_a_line() {
        let conf = Conf::default()
            .list(Setting::Packages, ["aa".into(), "bb".into()])
            .set(Setting::ImageId, "sf-x")
            .list(Setting::KernelCommandLine, [])
            .set(Setting::ToolsTree, literal("/a%b"))
            .set(Setting::Seed, "s");
        insta::assert_snapshot!(conf.text("one\ntwo"), @"
        # one
        # two

        [Output]
        ImageId=sf-x
        Seed=s

        [Build]
        ToolsTree=/a%%b

        [Content]
        Packages=
                aa
                bb
        ");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Setting::ALL.iter().map(|setting| setting.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Setting::ALL.len());
    }
}
