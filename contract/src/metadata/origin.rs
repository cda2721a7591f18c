//! Where metadata comes from, and which place wins: the one table of precedence.

use std::cmp::Reverse;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// A class of sources. The order of the variants is the precedence: what
/// stands first wins. A new class of sources is a new line here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// `--metadata FILE` on the command line.
    CommandLine,
    /// systemd credential `sf.<dotted.path>`: one field.
    FieldCredential,
    /// systemd credential `sf.metadata`: a whole document.
    Credential,
    /// `/etc/sf/metadata.d/*.toml`.
    DropIn,
    /// `/etc/sf/metadata.toml`.
    File,
    /// A config drive labelled `cidata`.
    NoCloudDrive,
    /// A config drive labelled `config-2`.
    OpenStackDrive,
    /// `sf.metadata_url=` on the kernel command line.
    Url,
    /// The metadata service of the cloud that the machine is in.
    Cloud,
}

impl Layer {
    /// All layers in falling precedence.
    pub const ALL: [Self; 9] = [
        Self::CommandLine,
        Self::FieldCredential,
        Self::Credential,
        Self::DropIn,
        Self::File,
        Self::NoCloudDrive,
        Self::OpenStackDrive,
        Self::Url,
        Self::Cloud,
    ];

    /// One line for the reference page and for "looked at" lists.
    pub fn about(self) -> &'static str {
        match self {
            Self::CommandLine => "a file named with `--metadata FILE` (of several, the last wins)",
            Self::FieldCredential => {
                "systemd credentials `sf.<field>`, one field each, such as `sf.database.dsn`"
            }
            Self::Credential => "the systemd credential `sf.metadata`, a whole document",
            Self::DropIn => "`/etc/sf/metadata.d/*.toml`, sorted by name (the last wins)",
            Self::File => "`/etc/sf/metadata.toml`",
            Self::NoCloudDrive => {
                "a NoCloud config drive, labelled `cidata` or `CIDATA`: its file `sf-metadata.toml`, else `user-data`"
            }
            Self::OpenStackDrive => {
                "an OpenStack config drive, labelled `config-2` or `CONFIG-2`: its file `sf-metadata.toml`, else `openstack/latest/user_data`"
            }
            Self::Url => {
                "`sf.metadata_url=` on the kernel command line, or the credential of that name, with a digest or a CA"
            }
            Self::Cloud => {
                "the metadata service of the cloud: EC2 (IMDSv2), OpenStack, GCE or Azure, known by the machine's DMI"
            }
        }
    }
}

/// One source of metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its class.
    pub layer: Layer,
    /// Its turn within the class; the later one wins.
    pub order: u32,
    /// As people see it: `credential sf.metadata`, `/etc/sf/metadata.toml`.
    pub name: String,
}

impl Origin {
    /// A source.
    pub fn new(layer: Layer, order: u32, name: impl Into<String>) -> Self {
        Self {
            layer,
            order,
            name: name.into(),
        }
    }

    /// Sorts by falling precedence. Names decide between equals only so that
    /// the order is total.
    pub(super) fn rank(&self) -> (Layer, Reverse<u32>, Reverse<&str>) {
        (self.layer, Reverse(self.order), Reverse(&self.name))
    }
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The source.
    pub origin: Origin,
    /// Byte range in the source's text.
    #[serde(skip)]
    pub span: Option<Range<usize>>,
    /// 1-based line, where the source has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.origin.name)?;
        match self.line {
            Some(line) => write!(formatter, ":{line}"),
            None => Ok(()),
        }
    }
}
