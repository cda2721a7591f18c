//! What the unit tests of several modules need.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sf_contract::manifest::Manifest;
use sf_contract::metadata::{self, Fragment, Layer, NodeMetadata, Origin, Target};
use sf_contract::release::{self, Release};
use sf_contract::role::Role;

/// What is logged meanwhile, an event a line: its level, its message, its fields.
pub(crate) fn logged(run: impl FnOnce()) -> String {
    use std::fmt::Write as _;
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    #[derive(Clone, Default)]
    struct Capture(Arc<Mutex<String>>);
    impl Visit for Capture {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            write!(self.0.lock().unwrap(), " {field}={value:?}").unwrap();
        }
    }
    impl<S: tracing::Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            write!(self.0.lock().unwrap(), "\n{}", event.metadata().level()).unwrap();
            event.record(&mut self.clone());
        }
    }
    let capture = Capture::default();
    let subscriber = tracing_subscriber::registry().with(capture.clone());
    tracing::subscriber::with_default(subscriber, run);
    let text = capture.0.lock().unwrap();
    text.clone()
}

/// A pipe that nobody writes into.
pub(crate) fn fifo(path: &Path) {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).unwrap();
    }
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o600.into(), 0).unwrap();
}

/// A small release with everything that a real one has.
pub(crate) const RELEASE: &str = include_str!("../tests/fixtures/release.toml");

/// The shortest metadata that the release takes.
pub(crate) const METADATA: &str = include_str!("../tests/fixtures/metadata.toml");

pub(crate) fn release() -> Release {
    match release::read("test", "release.toml", RELEASE) {
        Ok(release) => release,
        Err(problems) => panic!("{problems:?}"),
    }
}

pub(crate) fn image(role: Role) -> crate::image::Image {
    let release = release();
    let asked = ["database".to_owned(), "api".to_owned()];
    let daemons: Vec<&str> = release
        .units_for(role, &asked)
        .iter()
        .map(|daemon| daemon.unit.as_str())
        .collect();
    let manifest = serde_json::json!({
        "schema": 1,
        "image_id": format!("sf-{role}"),
        "image_version": "1.2-3",
        "profile": role.name(),
        "profile_digest": "",
        "role": role,
        "debug": false,
        "release": "test",
        "shakenfist_version": "0.8.0",
        "series": release.series,
        "predecessor": release.predecessor,
        "schema_versions": {},
        "daemons": daemons,
        "ports": [],
        "required_metadata": [],
        "tools": {},
        "source_commit": null,
    });
    let manifest = Manifest::parse(&manifest.to_string()).unwrap();
    crate::image::Image { manifest, release }
}

/// [`METADATA`] with more TOML from a stronger source.
pub(crate) fn metadata(extra: &str) -> NodeMetadata {
    let release = release();
    let merged = metadata::merge([
        Fragment::read(Origin::new(Layer::File, 0, "metadata.toml"), METADATA),
        Fragment::read(
            Origin::new(Layer::DropIn, 0, "extra.toml"),
            &format!("schema = 1\n{extra}"),
        ),
    ]);
    let resolved = merged.resolve(|_, _| unreachable!("no references in the fixtures"));
    let checked = metadata::check(
        &merged,
        &resolved,
        Target {
            role: Role::Hypervisor,
            release: &release,
        },
    );
    match checked.metadata {
        Some(metadata) => metadata,
        None => panic!("{checked:?}"),
    }
}

/// Writes a script that can be run.
pub(crate) fn executable(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The file of that name somewhere under a folder.
pub(crate) fn find(folder: &Path, name: &str) -> PathBuf {
    fn search(folder: &Path, name: &str) -> Option<PathBuf> {
        std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                search(&path, name)
            } else {
                (entry.file_name() == name).then_some(path)
            }
        })
    }
    search(folder, name).unwrap_or_else(|| panic!("no {name} under {}", folder.display()))
}

/// Texts as people choose them for secrets, quotes and delimiters included.
pub(crate) fn any_secret() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let part = prop_oneof![
        4 => "[A-Za-z0-9]",
        2 => "[\"'\\\\ =@:/?#%&,;\\[\\]{}$!*+_.~^|<>()`-]",
        1 => "[éßЖ漢\t\u{1b}]",
    ];
    proptest::collection::vec(part, PIECE..32)
        .prop_map(|parts| parts.concat())
        .prop_filter("tells nothing apart", |text| {
            let distinct: std::collections::BTreeSet<char> = text.chars().collect();
            // In [pki] a text that starts with a slash is a path, which is shown.
            distinct.len() >= 6 && !text.starts_with('/')
        })
}

/// Bytes of a secret that are a leak: less can be a coincidence.
const PIECE: usize = 8;

/// Every byte as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes()
        .fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))
}

/// A piece of the secret, in any form that a text can come out in, that `shown` holds.
pub(crate) fn leak(shown: &str, secret: &str) -> Option<String> {
    let quoted = serde_json::json!(secret).to_string();
    let forms = [
        secret.to_owned(),
        secret.escape_debug().to_string(),
        quoted.trim_matches('"').to_owned(),
        percent_encoded(secret),
    ];
    let pieces: std::collections::HashSet<&[u8]> = forms
        .iter()
        .flat_map(|form| form.as_bytes().windows(PIECE))
        .collect();
    shown
        .as_bytes()
        .windows(PIECE)
        .find(|window| pieces.contains(window))
        .map(|window| String::from_utf8_lossy(window).into_owned())
}
