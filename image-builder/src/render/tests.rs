use std::fmt::Write as _;

use super::*;
use crate::check::{Checked, check};
use crate::checkout::Checkout;

fn checkout() -> Checkout {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("root");
    Checkout::load(root).expect("load")
}

/// Renders a profile of this repository with a release of it.
fn rendered(profile: &str, release: &str, debug: bool) -> Tree {
    let checkout = checkout();
    let checked: Checked = check(&checkout);
    let version = ImageVersion::new("0.7.2-1", &image_id(profile)).expect("version");
    let shakenfist = if release == "0.7" {
        "0.7.2"
    } else {
        "0.8.0rc4"
    };
    let image = Image {
        profile: &checked.resolved[profile],
        release: &checked.releases[release],
        folder: &checkout.releases[release],
        statics: &checkout.statics,
        version: &version,
        shakenfist: &shakenfist.parse().expect("version"),
        debug,
        tools: &BTreeMap::from([("mkosi".to_owned(), "25.3-7".to_owned())]),
        commit: Some("0123456789abcdef0123456789abcdef01234567"),
    };
    let inputs = Inputs {
        venv: Path::new("/cache/venv/k/root"),
        agent: Path::new("/target/sf-firstboot"),
    };
    let host = Host {
        tools: Path::new("/cache/tools/k/tools"),
        sandbox: Path::new("/cache/sandbox/k"),
        base: Path::new("/cache/base/x"),
        packages: Path::new("/cache/packages"),
        workspace: Path::new("/cache/work 100%"),
        output: Path::new("/out"),
    };
    render(&image, Some(inputs), Some(host))
}

/// Every rendered file in one text; what is copied verbatim is left out.
fn text(tree: &Tree) -> String {
    let statics = checkout().statics;
    let mut text = String::new();
    for (path, node) in tree.iter() {
        let verbatim = statics.get(path).is_some()
            || path.starts_with("release.extra/")
            || path == "profile.extra/usr/lib/sf-image/release.toml";
        if verbatim {
            continue;
        }
        match node {
            Node::Link(target) => text.push_str(&["==> ", path, " -> ", target, "\n"].concat()),
            Node::File { mode, content } => {
                let _ = writeln!(
                    text,
                    "==> {path} {mode:o}\n{}",
                    String::from_utf8_lossy(content)
                );
            }
        }
    }
    // The digest of the profile changes with every word of it.
    let digest = text
        .split("\"profile_digest\": \"")
        .nth(1)
        .map(|rest| rest[..64].to_owned());
    digest.map_or(text.clone(), |digest| text.replace(&digest, "[digest]"))
}

#[test]
fn hypervisor_0_7() {
    insta::assert_snapshot!(text(&rendered("hypervisor", "0.7", false)));
}

#[test]
fn network_0_7() {
    insta::assert_snapshot!(text(&rendered("network", "0.7", false)));
}

#[test]
fn database_tier_0_7() {
    insta::assert_snapshot!(text(&rendered("database-tier", "0.7", false)));
}

#[test]
fn database_tier_develop() {
    insta::assert_snapshot!(text(&rendered("database-tier", "develop", false)));
}

#[test]
fn a_debug_image_says_so_everywhere() {
    let product = rendered("network", "0.7", false);
    let debug = rendered("network", "0.7", true);
    let added: Vec<_> = debug
        .paths()
        .filter(|path| product.get(path).is_none())
        .collect();
    assert_eq!(
        added,
        [
            "profile.extra/etc/issue.d/00-sf-debug.issue",
            "profile.extra/usr/lib/systemd/system/getty@.service.d/50-sf-debug.conf",
            "profile.extra/usr/lib/systemd/system/serial-getty@.service.d/50-sf-debug.conf",
        ]
    );
    let manifest = debug
        .text("profile.extra/usr/lib/sf-image/manifest.json")
        .expect("manifest");
    assert!(
        sf_contract::manifest::Manifest::parse(manifest)
            .expect("parse")
            .debug
    );
}

#[test]
fn roles_of_develop_run_their_daemons_alone() {
    let has = |tree: &Tree| {
        tree.get("profile.extra/usr/lib/systemd/system/sf-database.service")
            .is_some()
    };
    assert!(has(&rendered("database-tier", "develop", false)));
    assert!(!has(&rendered("hypervisor", "develop", false)));
}

#[test]
fn the_descriptor_is_in_the_image_word_for_word() {
    let tree = rendered("network", "0.7", false);
    let text = tree
        .text("profile.extra/usr/lib/sf-image/release.toml")
        .expect("text");
    let release = sf_contract::release::read("0.7", "x", text).expect("reads");
    assert_eq!(
        release.units_for(sf_contract::role::Role::Network, &["api".into()])[0].unit,
        "sf-daemon"
    );
}

/// Where a machine keeps things does not count for the image; all else does.
#[test]
fn the_image_depends_on_content_alone() {
    let key = |tree: &Tree| tree.add_to(digest::Key::new("t"), &NOT_CONTENT).finish();
    let base = rendered("network", "0.7", false);
    let mut elsewhere = base.clone();
    elsewhere.insert("mkosi.local.conf", Node::text("other"));
    elsewhere.insert("venv", Node::Link("/other".into()));
    assert_eq!(key(&base), key(&elsewhere));
    assert_eq!(key(&base), key(&rendered("network", "0.7", false)));
    assert_ne!(key(&base), key(&rendered("network", "0.7", true)));
    assert_ne!(key(&base), key(&rendered("hypervisor", "0.7", false)));
}

#[test]
fn the_seed_is_a_uuid_of_the_images_name() {
    let seed = seed("sf-hypervisor");
    assert_eq!(seed.len(), 36);
    assert_eq!(seed.chars().filter(|c| *c == '-').count(), 4);
    assert_eq!(&seed[14..15], "8");
    assert_ne!(seed, super::seed("sf-network"));
}
