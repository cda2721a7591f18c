//! discover -> merge -> validate: from files and credentials to what this
//! node is and what is said about it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sf_contract::metadata::node::BootstrapMode;
use sf_contract::metadata::{NodeMetadata, Reference, Target, Value};
use sf_contract::release::SettingValue;
use sf_contract::secret::Secret;
use zeroize::Zeroizing;

use crate::bootstrap::{Author, Inputs, Plan, SystemKey};
use crate::call_home::Address;
use crate::codes;
use crate::database::{self, Connector};
use crate::failure::Failure;
use crate::gate;
use crate::identity;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::report::{Phase, Reporter};
use crate::sources::{self, Collected, Loaded, Places, Remote};
use crate::state::{Key, unwritable};
use crate::write::{self, Access};

/// A node with validated metadata.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the image is.
    pub image: Image,
    /// Where the DSN stands, for failures of the database.
    pub dsn_place: String,
    origins: BTreeMap<String, Origin>,
    loaded: Loaded,
    connector: Connector,
    collected: Collected,
}

/// Where a field's value came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// For people: `/etc/sf/metadata.toml:9`, or the credential's name.
    pub place: String,
    /// The file that the field refers to, if it refers to one.
    pub file: Option<String>,
}

/// Why there is no such node.
#[derive(Debug)]
pub struct Invalid {
    /// For the card.
    pub failures: Vec<Failure>,
    /// Source frames, for a person, where there are any: what they show, and
    /// what is left to say below them.
    pub frames: Option<(String, Failure)>,
}

impl From<Failure> for Invalid {
    fn from(failure: Failure) -> Self {
        Self {
            failures: vec![failure],
            frames: None,
        }
    }
}

/// Where metadata is looked for. systemd gives credentials to its services
/// alone, so a command by hand takes those that the agent's own unit has while
/// it runs, or else those that systemd keeps for its services.
pub fn places(paths: &Paths, files: &[PathBuf]) -> Places {
    let places = if paths.is_this_machine() {
        Places::system()
    } else {
        Places::under(paths.root())
    };
    let given = std::env::var_os("CREDENTIALS_DIRECTORY")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    let places = places.command_line(files.to_vec());
    match given {
        Some(folder) => places.credentials(folder),
        None => places.credentials_by_hand(paths),
    }
}

/// Runs the three phases. `remote` says whether servers are asked and devices
/// waited for.
pub fn read(
    paths: &Paths,
    given: &Given<'_>,
    files: &[PathBuf],
    remote: Remote,
    reporter: &mut Reporter,
) -> Result<Node, Invalid> {
    reporter.phase(Phase::Discover);
    let image = Image::read(paths, given)?;
    reporter.image(&image);
    let mut places = places(paths, files).remote(remote);
    if given.desk_check {
        places = places.desk();
    }
    let collected = sources::collect_telling(&places, &mut |text| reporter.progress(text));
    for place in collected.found() {
        tracing::info!("metadata: {place}");
    }
    reporter.phase(Phase::Merge);
    // Even where the rest is wrong, the card can say which node this is.
    if let Some(name) = collected.merged.get("node.name") {
        reporter.node(name.winner.value.to_string().trim_matches('"'));
    }
    reporter.call_home(home(&collected));
    reporter.phase(Phase::Validate);
    let node = validate(image, collected)?;
    let metadata = node.metadata();
    reporter.call_home(metadata.report_url.as_ref().map(|url| Address {
        url: Secret::new(url.expose()),
        ca: metadata.pki.ca.clone(),
    }));
    reporter.node(&node.metadata().node.name);
    Ok(node)
}

/// Where results go, even where the rest of the metadata is wrong: that is
/// when somebody has to hear of it.
fn home(collected: &Collected) -> Option<Address> {
    match &collected.merged.get("report.url")?.winner.value {
        Value::Text(url) => Some(Secret::new(url)),
        Value::Secret(url) => Some(url.clone()),
        _ => None,
    }
    .map(|url| Address {
        url,
        ca: collected.authority(),
    })
}

fn validate(image: Image, collected: Collected) -> Result<Node, Invalid> {
    let target = Target {
        role: image.role(),
        release: &image.release,
    };
    let loaded = collected.load(target).map_err(|rejected| {
        warn(&rejected.warnings);
        Invalid {
            failures: vec![rejected.summary()],
            frames: (!rejected.frames.is_empty())
                .then(|| (rejected.frames.clone(), rejected.below_frames())),
        }
    })?;
    warn(&loaded.warnings);
    let dsn_place = collected
        .merged
        .place("database.dsn")
        .unwrap_or_else(|| "node metadata".into());
    let connector = Connector::of(&loaded.metadata).keeping();
    let origins = collected
        .merged
        .fields()
        .map(|(path, field)| {
            let origin = Origin {
                place: collected.merged.place(path).unwrap_or_default(),
                file: match &field.winner.value {
                    Value::Reference(Reference::File(file)) => Some(file.clone()),
                    _ => None,
                },
            };
            (path.to_owned(), origin)
        })
        .collect();
    Ok(Node {
        image,
        dsn_place,
        origins,
        loaded,
        connector,
        collected,
    })
}

/// The metadata for a command that has to go on without it.
pub fn load_quietly(paths: &Paths, image: &Image) -> Option<Loaded> {
    let target = Target {
        role: image.role(),
        release: &image.release,
    };
    // Neither a daemon's restart nor its readiness waits for a metadata server.
    match sources::collect(&places(paths, &[]).remote(Remote::Kept)).load(target) {
        Ok(loaded) => Some(loaded),
        Err(rejected) => {
            let failure = rejected.summary();
            tracing::warn!(
                code = failure.code.id,
                "the database cannot be asked, for want of metadata: {}",
                failure.what
            );
            None
        }
    }
}

fn warn(warnings: &[Failure]) {
    for warning in warnings {
        tracing::warn!(
            code = warning.code.id,
            source = warning.source,
            "{}; {}",
            warning.what,
            warning.remedy_text()
        );
    }
}

impl Node {
    /// What is said about it.
    pub fn metadata(&self) -> &NodeMetadata {
        &self.loaded.metadata
    }

    /// Somebody wants the bootstrap now, whether or not the node does it at boot
    /// (`bootstrap.mode`).
    pub fn bootstrap_by_hand(&mut self) {
        self.loaded.metadata.bootstrap_mode = BootstrapMode::Auto;
    }

    /// Keeps what was fetched for boots without its server. For a run, once
    /// everything has turned out well.
    pub fn keep_fetched(&self, paths: &Paths) -> Result<(), Failure> {
        self.collected.keep(paths)
    }

    /// The way to the database: one connection, which the phases hand on.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// At a desk: fields whose values only the node has, and where.
    pub fn elsewhere(&self) -> &BTreeMap<String, String> {
        &self.loaded.elsewhere
    }

    /// Where the value of a field came from; `None` when it was not given.
    pub fn origin(&self, field: &str) -> Option<&Origin> {
        self.origins.get(field)
    }

    /// What the bootstrap is to establish. Checks key, seed and whitelist.
    pub fn plan(&self) -> Result<Plan, Vec<Failure>> {
        let metadata = self.metadata();
        let secrets = &metadata.secrets;
        Plan::new(Inputs {
            series: self.image.manifest.series,
            predecessor: self.image.manifest.predecessor,
            release: self.image.manifest.shakenfist_version.to_string(),
            auth_secret_seed: secrets.auth_secret_seed.clone(),
            system_key: secrets.system_key.clone().map(|secret| SystemKey {
                name: secrets.system_key_name.clone(),
                secret,
            }),
            config: metadata.cluster_config.clone(),
            whitelist: self.image.release.cluster_config.clone(),
        })
    }

    /// Who writes the completion records.
    pub fn author(&self) -> Author {
        Author {
            fqdn: self.metadata().node.name.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            image_version: self.image.manifest.image_version.clone(),
        }
    }

    /// The image as the gate sees it.
    pub fn gate_image(&self) -> gate::Image {
        gate_image(&self.image)
    }

    /// The node as the gate sees it.
    pub fn gate_node(&self, paths: &Paths) -> gate::Node {
        gate_node(paths, &self.image, &self.metadata().node.name)
    }

    /// A failure of the database with the DSN that it is about.
    pub fn about_dsn(&self, mut failure: Failure) -> Failure {
        if failure.code.id.starts_with("SF-DB-") {
            failure
                .value
                .get_or_insert_with(|| self.metadata().database.dsn.to_string());
            failure.source.get_or_insert_with(|| self.dsn_place.clone());
            failure
                .next_command
                .get_or_insert_with(|| "sf-firstboot check".into());
            // The connection does not know what node it is for.
            failure.remedy = failure.remedy.map(|remedy| {
                remedy
                    .replace("--role ROLE", &format!("--role {}", self.image.role()))
                    .replace(database::WHICH_ROLE, "")
            });
        }
        failure
    }

    /// A failure about a field with the place where the field stands, and by the
    /// name that it has there.
    pub fn placed(&self, mut failure: Failure) -> Failure {
        let Some(named) = failure
            .source
            .as_deref()
            .and_then(|source| source.strip_prefix("metadata field "))
            .map(str::to_owned)
        else {
            return failure;
        };
        let field = self.written_as(&named).to_owned();
        failure.what = failure.what.replace(&named, &field);
        failure.source = Some(match self.origin(&field) {
            Some(origin) if !origin.place.is_empty() => format!("{} ({field})", origin.place),
            _ => format!("metadata field {field}"),
        });
        failure
    }

    /// The field that a cluster-wide setting was made of: most have one of their
    /// own, and stand in `[cluster.config]` only as the bootstrap sees them.
    fn written_as<'f>(&'f self, field: &'f str) -> &'f str {
        let Some(key) = field.strip_prefix("cluster.config.") else {
            return field;
        };
        let settings = self.image.release.settings.iter();
        settings
            .filter(|setting| setting.key == key)
            .find_map(|setting| match &setting.value {
                SettingValue::Metadata(path) => self.origin(path).map(|_| path.as_str()),
                _ => None,
            })
            .unwrap_or(field)
    }

    /// What a finished run would be for; `None` while this node has never
    /// begun one, since then there is no digest to compare.
    pub fn key(&self, paths: &Paths) -> Option<Key> {
        let secret = secret(paths).unwrap_or_else(|error| {
            tracing::warn!(
                cause = %error,
                "{} cannot be used, so this run does everything again and makes it anew",
                paths.shown(&paths.state(KEY))
            );
            None
        });
        secret.map(|secret| self.key_with(paths, &secret))
    }

    /// The same, making the node's own key where it has none.
    pub fn key_made(&self, paths: &Paths) -> Result<Key, Failure> {
        if let Ok(Some(secret)) = secret(paths) {
            return Ok(self.key_with(paths, &secret));
        }
        let mut secret = Zeroizing::new([0_u8; KEY_BYTES]);
        getrandom::fill(secret.as_mut_slice()).map_err(|error| {
            Failure::new(&codes::INTERNAL, "the kernel gave no random bytes")
                .cause(&std::io::Error::from(error))
        })?;
        write::atomically(&paths.state(KEY), secret.as_slice(), Access::PRIVATE)
            .map_err(|error| unwritable(&error))?;
        Ok(self.key_with(paths, secret.as_slice()))
    }

    fn key_with(&self, paths: &Paths, secret: &[u8]) -> Key {
        Key {
            instance: identity::instance_id(paths),
            image_id: self.image.manifest.image_id.clone(),
            image_version: self.image.manifest.image_version.clone(),
            metadata: self.loaded.digest(secret),
        }
    }
}

/// The key of the metadata's digest: without it nobody can try guesses at a
/// secret against the done marker.
const KEY: &str = "digest.key";
const KEY_BYTES: usize = 32;

/// The node's own, if it has one.
fn secret(paths: &Paths) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    match crate::read::bytes(&paths.state(KEY), crate::read::LIMIT).map(Zeroizing::new) {
        Ok(secret) if secret.len() == KEY_BYTES => Ok(Some(secret)),
        Ok(secret) => Err(std::io::Error::other(format!(
            "it has {} bytes, not {KEY_BYTES}",
            secret.len()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The node as the gate sees it.
pub fn gate_node(paths: &Paths, image: &Image, fqdn: &str) -> gate::Node {
    gate::Node {
        fqdn: fqdn.to_owned(),
        role: image.role(),
        instance_id: identity::machine_id(paths),
    }
}

/// The image as the gate sees it.
pub fn gate_image(image: &Image) -> gate::Image {
    gate::Image {
        series: image.manifest.series,
        predecessor: image.manifest.predecessor,
        release: image.manifest.shakenfist_version.to_string(),
        image_version: image.manifest.image_version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_key_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        assert_eq!(secret(&paths).unwrap(), None);
        write::atomically(&paths.state(KEY), &[1; 31], Access::PRIVATE).unwrap();
        let error = secret(&paths).unwrap_err().to_string();
        assert_eq!(error, "it has 31 bytes, not 32");
        write::atomically(&paths.state(KEY), &[1; 32], Access::PRIVATE).unwrap();
        assert!(secret(&paths).unwrap().is_some());
    }
}
