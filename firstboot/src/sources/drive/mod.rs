//! Config drives: found by the label of their file system, read without being
//! mounted, never opened for writing.
//!
//! Both kinds are read, `NoCloud`'s above `OpenStack`'s. Two drives of one
//! kind (one labelled `cidata`, one `CIDATA`) stop the agent; of two with the
//! very same label udev shows one, and so do we.

mod fat;
mod iso;
mod volume;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_contract::metadata::{Fragment, Layer, Origin};

use super::envelope::{self, Foreign, UserData};
use super::{Found, Looked, Places, Remote, Tell, files};
use crate::codes;
use crate::failure::Failure;

pub use volume::{FILE_LIMIT, ReadAt, Volume, VolumeError, read_file};

/// Where udev shows file systems by their labels.
const BY_LABEL: &str = "/dev/disk/by-label";
/// It exists while udev has devices to look at.
const UDEV_QUEUE: &str = "/run/udev/queue";
/// How long udev is waited for.
const UDEV_WAIT: Duration = Duration::from_secs(10);
/// Our own file on a drive of any kind; it wins over user data.
pub const OWN_FILE: &str = "sf-metadata.toml";

/// What distinguishes the kinds.
struct Kind {
    layer: Layer,
    name: &'static str,
    labels: [&'static str; 2],
    user_data: &'static str,
    instance: &'static str,
}

const NOCLOUD: Kind = Kind {
    layer: Layer::NoCloudDrive,
    name: "NoCloud drive",
    labels: ["cidata", "CIDATA"],
    user_data: "user-data",
    instance: "meta-data",
};

const OPENSTACK: Kind = Kind {
    layer: Layer::OpenStackDrive,
    name: "OpenStack config drive",
    labels: ["config-2", "CONFIG-2"],
    user_data: "openstack/latest/user_data",
    instance: "openstack/latest/meta_data.json",
};

pub(super) fn nocloud(places: &Places, tell: Tell<'_>) -> Vec<Looked> {
    vec![look(&NOCLOUD, places, tell)]
}

pub(super) fn openstack(places: &Places, tell: Tell<'_>) -> Vec<Looked> {
    vec![look(&OPENSTACK, places, tell)]
}

/// Is a drive of OpenStack's there, whatever is on it? Where there is one, its
/// metadata service is not asked.
pub(super) fn openstack_is_here(places: &Places) -> bool {
    labelled(places, &OPENSTACK).is_ok_and(|drives| !drives.is_empty())
}

fn look(kind: &Kind, places: &Places, tell: Tell<'_>) -> Looked {
    let at = |label: &str, found| Looked::new(kind.layer, format!("{} {label}", kind.name), found);
    if places.remote == Remote::Skip {
        return at(kind.labels[0], Found::NotHere(super::SKIPPED.into()));
    }
    match settled(places, kind, tell) {
        Err(error) => at(
            kind.labels[0],
            Found::Broken(super::read::unreadable(BY_LABEL, &error)),
        ),
        Ok(drives) => match drives.as_slice() {
            [] => at(
                kind.labels[0],
                Found::NotHere(format!(
                    "{NO_LABEL}{}{}",
                    kind.labels.join(" or "),
                    there_are(places)
                )),
            ),
            [drive] => {
                // A worn disc or a virtual one can take minutes.
                tell(&format!("reading the {} {}", kind.name, drive.label));
                match read(kind, drive) {
                    Ok((found, note)) => Looked {
                        note,
                        ..at(&drive.label, found)
                    },
                    Err(failure) => at(&drive.label, Found::Broken(failure)),
                }
            }
            [first, second, ..] => at(
                &first.label,
                Found::Broken(Box::new(
                    Failure::new(
                        &codes::DRIVE_SEVERAL,
                        format!(
                            "two drives can be this node's {}: one labelled {}, one labelled {}",
                            kind.name, first.label, second.label
                        ),
                    )
                    .source(BY_LABEL)
                    .next_command("lsblk -o NAME,LABEL,FSTYPE,SIZE"),
                )),
            ),
        },
    }
}

/// What other labels there are, for whoever made the drive with another one.
fn there_are(places: &Places) -> String {
    const SHOWN: usize = 6;
    let names = files::names(&places.at(BY_LABEL)).unwrap_or_default();
    let mut labels: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| {
            unescaped(&name.to_string_lossy())
                .escape_debug()
                .to_string()
        })
        .collect();
    if names.len() > SHOWN {
        labels.push("\u{2026}".into());
    }
    if labels.is_empty() {
        return String::new();
    }
    format!("; there are: {}", labels.join(", "))
}

struct Drive {
    label: String,
    path: PathBuf,
}

/// The drives of a kind; where there are none, after udev has looked at all
/// devices.
fn settled(places: &Places, kind: &Kind, tell: Tell<'_>) -> io::Result<Vec<Drive>> {
    let deadline = Instant::now() + UDEV_WAIT;
    loop {
        let busy = places.at(UDEV_QUEUE).exists();
        let drives = labelled(places, kind)?;
        let wait = matches!(places.remote, Remote::Ask { .. });
        if !drives.is_empty() || !busy || !wait || Instant::now() >= deadline {
            return Ok(drives);
        }
        tell("waiting for udev to look at all drives");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How it is said that there is no drive of a kind.
const NO_LABEL: &str = "no file system has the label ";

/// Was no drive there, not even one that says nothing?
pub(super) fn is_missing(place: &Looked) -> bool {
    matches!(&place.found, Found::NotHere(why) if why.starts_with(NO_LABEL))
}

/// Waits for a drive of these layers as long as for udev, at most `limit`; is there
/// one then? A USB stick or a BMC's virtual disc can show up when udev has long
/// looked at everything.
pub(super) fn shows_up(places: &Places, layers: &[Layer], limit: Duration, tell: Tell<'_>) -> bool {
    let deadline = Instant::now() + limit.min(UDEV_WAIT);
    loop {
        let here = |kind: &Kind| {
            layers.contains(&kind.layer)
                && labelled(places, kind).is_ok_and(|drives| !drives.is_empty())
        };
        if here(&NOCLOUD) || here(&OPENSTACK) {
            return true;
        }
        if layers.is_empty() || Instant::now() >= deadline {
            return false;
        }
        tell("no source has metadata; waiting for a drive that shows up late");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn labelled(places: &Places, kind: &Kind) -> io::Result<Vec<Drive>> {
    let folder = places.at(BY_LABEL);
    let names = match files::names(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut drives: Vec<(PathBuf, Drive)> = Vec::new();
    for name in names {
        let label = unescaped(&name.to_string_lossy());
        if !kind.labels.contains(&label.as_str()) {
            continue;
        }
        let path = folder.join(&name);
        // Two labels of one device (a hybrid disc) are one drive.
        let device = path.canonicalize().unwrap_or_else(|_| path.clone());
        if drives.iter().all(|(other, _)| *other != device) {
            drives.push((device, Drive { label, path }));
        }
    }
    Ok(drives.into_iter().map(|(_, drive)| drive).collect())
}

/// A name under `/dev/disk/by-label` as the label that it stands for: udev
/// writes `\x20` for what does not belong into a path, and pads nothing.
pub fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = rest
            .strip_prefix(b"\\x")
            .and_then(|digits| digits.get(..2))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escape {
            bytes.push(byte);
            rest = &rest[4..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// What a drive says: the metadata or why there is none, and a note.
fn read(kind: &Kind, drive: &Drive) -> Result<(Found, Option<String>), Box<Failure>> {
    let name = format!("{} {}", kind.name, drive.label);
    let device = open(&drive.path).map_err(|error| unreadable(&name, &error))?;
    let damaged = |error: VolumeError| unreadable(&name, &error);
    let volume = Volume::open(&device).map_err(damaged)?;
    let mut found = None;
    for file in [OWN_FILE, kind.user_data] {
        if found.is_none() {
            found = volume
                .file(file)
                .map_err(damaged)?
                .map(|bytes| (file, bytes));
        }
    }
    let Some((file, bytes)) = found else {
        let why = format!("it has neither {OWN_FILE} nor {}", kind.user_data);
        return Ok((Found::NotHere(why), None));
    };
    // The copies that are left behind here are wiped.
    let bytes = zeroize::Zeroizing::new(bytes);
    let origin = format!("{name}, {file}");
    let found = match envelope::user_data(&bytes) {
        Ok(UserData::Text(text)) => {
            Found::Here(Fragment::read(Origin::new(kind.layer, 0, origin), text))
        }
        Ok(UserData::Empty) => Found::NotHere(format!("its {file} is empty")),
        Err(foreign) => {
            let instead = format!(
                "Put this node's metadata on the drive as {OWN_FILE}, in the top folder: it wins over {}, which can stay for cloud-init.",
                kind.user_data
            );
            return Err(foreign_failure(&origin, foreign, &instead));
        }
    };
    let instance = match volume.file(kind.instance).map_err(damaged)? {
        None => None,
        Some(bytes) if kind.layer == Layer::NoCloudDrive => envelope::nocloud_instance_id(&bytes),
        Some(bytes) => envelope::openstack_instance_id(&bytes).map_err(|error| {
            Box::new(
                Failure::new(
                    &codes::DRIVE_UNREADABLE,
                    format!("{} on the {name} is not JSON", kind.instance),
                )
                .source(&name)
                .cause(&error),
            )
        })?,
    };
    Ok((found, instance.map(|id| format!("instance {id}"))))
}

/// Opens for reading what is a block device, or in tests a file. Anything else
/// could block or never end.
fn open(path: &Path) -> io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_block_device() && !kind.is_file() {
        return Err(io::Error::other("it is neither a drive nor a file"));
    }
    std::fs::OpenOptions::new()
        .read(true)
        // A drive without a disc must not be waited for.
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default())
        .open(path)
}

fn unreadable(name: &str, error: &(dyn std::error::Error + 'static)) -> Box<Failure> {
    Box::new(
        Failure::new(
            &codes::DRIVE_UNREADABLE,
            format!("the {name} is there but cannot be read"),
        )
        .source(name)
        .cause(error)
        .next_command("lsblk -o NAME,LABEL,FSTYPE,SIZE,RO"),
    )
}

/// User data that is for somebody else.
pub(super) fn foreign_failure(origin: &str, foreign: Foreign, instead: &str) -> Box<Failure> {
    let remedy = match foreign {
        Foreign::Compressed(_) => "Give it uncompressed: metadata is a few KiB of text.".to_owned(),
        Foreign::NotText { .. } => "Give it as UTF-8 text; its first line is `schema = 1`.".into(),
        Foreign::CloudInit(_) | Foreign::Ignition | Foreign::Html => instead.to_owned(),
    };
    Box::new(
        Failure::new(
            &codes::META_FOREIGN,
            format!("{origin}: it is {foreign}, where this node's metadata is expected"),
        )
        .source(origin)
        .remedy(remedy),
    )
}
