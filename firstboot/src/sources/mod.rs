//! Where metadata is looked for. Each source says "not here", "here" or "here
//! but broken", and broken stops the agent: nothing is guessed. Precedence is
//! [`Layer`]'s; [`SOURCES`] has one line for each layer, so a new source is a
//! line there and one in `Layer`.

mod channel;
pub mod cloud;
mod credentials;
mod digest;
pub mod drive;
pub mod envelope;
mod fetch;
mod files;
pub mod http;
mod kept;
pub mod kernel;
mod load;
mod read;
mod references;
mod store;
mod url;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sf_contract::metadata::explain::{self, Explained};
use sf_contract::metadata::{Fragment, Layer, Merged, merge};
use sf_contract::secret::Secret;

use crate::failure::Failure;
use crate::paths::Paths;

use store::Store;

pub use fetch::{cloud_by, url_by};
pub use load::{DatabaseFields, Loaded, Rejected};
pub use store::{Closed, closed_credentials};

/// Where a node keeps its metadata.
pub const FILE: &str = "/etc/sf/metadata.toml";
/// Where parts of it can stand.
pub const DROP_INS: &str = "/etc/sf/metadata.d";

/// The places to look at.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
    credentials: Option<Store>,
    command_line: Vec<PathBuf>,
    is_desk: bool,
    remote: Remote,
    /// The address of the clouds' metadata service.
    service: String,
}

/// What is said of a source that [`Remote::Skip`] leaves out.
const SKIPPED: &str =
    "not looked at: this command was told about a node, it is not about this machine";

/// What is done about sources that may have to be waited for: devices that
/// udev has not seen yet, servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// They are waited for this long at most: what a run on a node does.
    Ask {
        /// Where there is nothing to fall back on.
        wait: Duration,
        /// Where a kept copy can be used instead.
        wait_with_copy: Duration,
    },
    /// Nothing is waited for and no server is asked: what was kept of an
    /// earlier run counts.
    Kept,
    /// They are no business of this command: it is not about this machine.
    Skip,
}

impl Remote {
    /// For a run. With nothing to fall back on the unit is restarted when the
    /// time is up, so this bounds one attempt, not the node's patience.
    pub const RUN: Self = Self::Ask {
        wait: Duration::from_mins(5),
        wait_with_copy: Duration::from_secs(20),
    };
}

impl Places {
    /// Those of this machine; credentials are where systemd says.
    pub fn system() -> Self {
        Self {
            root: PathBuf::from("/"),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY")
                .filter(|folder| !folder.is_empty())
                .map(Store::in_folder),
            command_line: Vec::new(),
            remote: Remote::Kept,
            service: cloud::SERVICE.into(),
            is_desk: false,
        }
    }

    /// Those of a tree that stands for a machine, without credentials.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            credentials: None,
            command_line: Vec::new(),
            remote: Remote::Kept,
            service: cloud::SERVICE.into(),
            is_desk: false,
        }
    }

    /// Credentials from this folder.
    #[must_use]
    pub fn credentials(mut self, folder: impl Into<PathBuf>) -> Self {
        self.credentials = Some(Store::in_folder(folder));
        self
    }

    /// Without a folder of this process's own: those that a command by hand
    /// can read.
    #[must_use]
    pub fn credentials_by_hand(mut self, paths: &Paths) -> Self {
        self.credentials = self.credentials.or_else(|| Store::by_hand(paths));
        self
    }

    /// Files named with `--metadata`; they are not under the root.
    #[must_use]
    pub fn command_line(mut self, files: Vec<PathBuf>) -> Self {
        self.command_line = files;
        self
    }

    /// What is done about sources that may have to be waited for; without
    /// this, [`Remote::Kept`].
    #[must_use]
    pub fn remote(mut self, remote: Remote) -> Self {
        self.remote = remote;
        self
    }

    /// Another address for the clouds' metadata service, for tests: on a node
    /// nothing can change it.
    #[must_use]
    pub fn metadata_service(mut self, url: impl Into<String>) -> Self {
        self.service = url.into();
        self
    }

    /// Those of a desk where metadata of another machine is checked: what it
    /// refers to need not be here.
    #[must_use]
    pub fn desk(mut self) -> Self {
        self.is_desk = true;
        self
    }

    /// A path of the node under the root.
    fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }
}

/// What was found at one place.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing, and why that is so: `no such file`.
    NotHere(String),
    /// Metadata, perhaps with mistakes in it.
    Here(Fragment),
    /// Something that cannot be read.
    Broken(Box<Failure>),
}

/// One place that was looked at.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Class of the source.
    pub layer: Layer,
    /// The place, as people know it.
    pub place: String,
    /// What was there.
    pub found: Found,
    /// Can every user of the machine read it?
    exposed: bool,
    /// More about it: `instance i-1234`.
    note: Option<String>,
    /// What to tell without stopping.
    warning: Option<Box<Failure>>,
    /// Could it have said something, had it been asked?
    unasked: bool,
    /// To be kept, when the whole load turns out well.
    keep: Option<kept::Copy>,
}

impl Looked {
    fn new(layer: Layer, place: impl Into<String>, found: Found) -> Self {
        Self {
            layer,
            place: place.into(),
            found,
            exposed: false,
            note: None,
            warning: None,
            unasked: false,
            keep: None,
        }
    }
}

/// One line for a list of places: `/etc/sf/metadata.toml: no such file`.
impl std::fmt::Display for Looked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found = match &self.found {
            Found::NotHere(why) => why.as_str(),
            Found::Here(fragment) if fragment.problems.is_empty() => "found",
            Found::Here(_) => "found, with mistakes",
            Found::Broken(_) => "found, but it cannot be read",
        };
        write!(formatter, "{}: {found}", self.place)?;
        match &self.note {
            Some(note) => write!(formatter, " ({note})"),
            None => Ok(()),
        }
    }
}

/// Says what is waited for.
pub type Tell<'t> = &'t mut dyn FnMut(&str);

/// What looks at the places of one layer, in the order in which later wins.
#[derive(Clone, Copy)]
enum Look {
    /// Answers at once.
    Here(fn(&Places) -> Vec<Looked>),
    /// May wait, and says for what.
    Waiting(fn(&Places, Tell<'_>) -> Vec<Looked>),
}

/// Every layer with what looks for it, in the order of precedence.
const SOURCES: [(Layer, Look); 9] = [
    (Layer::CommandLine, Look::Here(files::command_line)),
    (Layer::FieldCredential, Look::Here(credentials::fields)),
    (Layer::Credential, Look::Here(credentials::document)),
    (Layer::DropIn, Look::Here(files::drop_ins)),
    (Layer::File, Look::Here(files::file)),
    (Layer::NoCloudDrive, Look::Waiting(drive::nocloud)),
    (Layer::OpenStackDrive, Look::Waiting(drive::openstack)),
    (Layer::Url, Look::Waiting(url::named)),
    (Layer::Cloud, Look::Waiting(cloud::service)),
];

/// All metadata that there is, merged but not yet validated.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The merge of everything that could be read.
    pub merged: Merged,
    /// Every place looked at, in falling precedence.
    pub looked: Vec<Looked>,
    /// Places that are there but cannot be read. Each stops the agent.
    pub broken: Vec<Failure>,
    /// What to tell without stopping.
    pub warnings: Vec<Failure>,
    places: Places,
}

/// Looks everywhere. Never fails: what is wrong is in the result, so that
/// `explain` can still show the rest.
pub fn collect(places: &Places) -> Collected {
    collect_telling(places, &mut |text| tracing::debug!("{text}"))
}

/// The same, and says what is waited for.
pub fn collect_telling(places: &Places, tell: Tell<'_>) -> Collected {
    let mut looked = Vec::new();
    for (_, look) in SOURCES {
        looked.extend(match look {
            Look::Here(look) => look(places),
            Look::Waiting(look) => look(places, tell),
        });
    }
    let (stray, mut warnings) = credentials::strays(places, &looked);
    looked.extend(stray);
    late_drive(places, &mut looked, tell);
    let mut broken = Vec::new();
    let mut fragments = Vec::new();
    for place in &looked {
        warnings.extend(place.warning.as_deref().cloned());
        match &place.found {
            Found::NotHere(_) => {}
            Found::Broken(failure) => broken.push((**failure).clone()),
            Found::Here(fragment) => {
                if place.exposed && fragment.has_inline_secret() {
                    warnings.push(read::exposed(&place.place, "it holds secrets"));
                }
                fragments.push(fragment.clone());
            }
        }
    }
    Collected {
        merged: merge(fragments),
        looked,
        broken,
        warnings,
        places: places.clone(),
    }
}

/// What a file that a person names on a command line holds, or a pipe.
pub(crate) fn text_by_hand(path: &Path) -> Result<Option<Secret>, Box<Failure>> {
    let read = read::text(path, &path.display().to_string(), read::Files::AlsoPipes)?;
    Ok(read.map(|read| read.text))
}

/// Before it is said that there is no metadata at all, which is not tried again,
/// a drive may still show up.
fn late_drive(places: &Places, looked: &mut [Looked], tell: Tell<'_>) {
    let Remote::Ask { wait, .. } = places.remote else {
        return;
    };
    let absent = |place: &Looked| matches!(place.found, Found::NotHere(_));
    let missing: Vec<usize> = (0..looked.len())
        .filter(|at| looked.get(*at).is_some_and(drive::is_missing))
        .collect();
    let layers: Vec<Layer> = missing
        .iter()
        .filter_map(|at| Some(looked.get(*at)?.layer))
        .collect();
    if !looked.iter().all(absent) || !drive::shows_up(places, &layers, wait, tell) {
        return;
    }
    for at in missing {
        if let Some(place) = looked.get_mut(at) {
            let mut again = match place.layer {
                Layer::NoCloudDrive => drive::nocloud(places, tell),
                _ => drive::openstack(places, tell),
            };
            *place = again.remove(0);
        }
    }
}

impl Collected {
    /// Is there no metadata at all, not even a broken one?
    pub fn is_empty(&self) -> bool {
        self.looked
            .iter()
            .all(|place| matches!(place.found, Found::NotHere(_)))
    }

    /// Servers that were left alone, and of whose answers nothing is kept:
    /// what they would say is missing.
    pub fn unasked(&self) -> impl Iterator<Item = &Looked> {
        self.looked.iter().filter(|place| place.unasked)
    }

    /// Places with metadata, in falling precedence.
    pub fn found(&self) -> impl Iterator<Item = &Looked> {
        let here = |place: &&Looked| matches!(place.found, Found::Here(_));
        self.looked.iter().filter(here)
    }

    /// Keeps what was fetched, for a boot on which its server is dead; forgets
    /// what no source gives any more. For after a run that found all of it
    /// good. Does nothing when this was no run that asked.
    pub fn keep(&self, paths: &Paths) -> Result<(), Failure> {
        if !matches!(self.places.remote, Remote::Ask { .. }) {
            return Ok(());
        }
        let copies: Vec<kept::Copy> = self
            .looked
            .iter()
            .filter_map(|place| place.keep.clone())
            .collect();
        kept::keep(paths, &copies)
    }

    /// What `sf-firstboot explain [FIELD]` shows.
    pub fn explain(&self, field: Option<&str>) -> Result<Vec<Explained>, Failure> {
        let explained = explain::explain(&self.merged, field);
        let explained = explained.map(|fields| fields.into_iter().map(|one| self.channelled(one)));
        explained.map(Iterator::collect).map_err(|error| {
            let failure = Failure::new(&crate::codes::USAGE, error.to_string());
            match error.near {
                Some(near) => failure
                    .remedy(format!("Did you mean {near}?"))
                    .next_command(format!("sf-firstboot explain {near}")),
                None => failure
                    .remedy("`sf-firstboot explain` lists all fields.")
                    .next_command("sf-firstboot explain"),
            }
        })
    }
}

impl Collected {
    /// With the ways by which credentials came.
    fn channelled(&self, mut one: Explained) -> Explained {
        for sourced in one.value.iter_mut().chain(&mut one.shadowed) {
            let name = sourced.source.strip_prefix("credential ");
            let name = name.map(|name| name.split(':').next().unwrap_or(name));
            sourced.channel = name.and_then(|name| channel::channel(&self.places, name));
        }
        one
    }
}

/// The path as the node knows it.
fn shown(places: &Places, path: &Path) -> String {
    match path.strip_prefix(&places.root) {
        Ok(rest) if places.root != Path::new("/") => format!("/{}", rest.display()),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests;
