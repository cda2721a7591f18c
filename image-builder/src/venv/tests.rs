//! The pure parts of the environment's making; the real thing is tried in
//! `tests/infra_real.rs`.

use super::*;

fn tools() -> Tools {
    Tools {
        tree: "/t".into(),
        sandbox: "/s".into(),
        key: "k".into(),
        manifest: "/m".into(),
        cached: true,
    }
}

fn spec<'a>(source: Source, skip: &'a [String], shims: &'a [PathBuf]) -> VenvSpec<'a> {
    VenvSpec {
        source,
        from_distribution: skip,
        overrides: &[],
        shims,
        prefix: "/usr/lib/x",
        python: "3.13",
        package: "x",
        epoch: 1,
    }
}

#[test]
fn the_key_follows_every_input() {
    let dir = tempfile::tempdir().expect("tempdir");
    let lock = dir.path().join("lock");
    let shim = dir.path().join("shim");
    fs::create_dir(&shim).expect("mkdir");
    let keys = |skip: &[String]| {
        let shims = [shim.clone()];
        let spec = spec(Source::Lock(lock.clone()), skip, &shims);
        let requirements = spec.requirements().expect("requirements");
        let wheels = spec.wheels_key(&requirements, &tools()).expect("wheels");
        (spec.key(&wheels).expect("key"), wheels)
    };
    fs::write(
        &lock,
        "a==1 \\\n --hash=sha256:aa\nb==1 \\\n --hash=sha256:bb\n",
    )
    .expect("write");
    let base = keys(&[]);
    assert_eq!(base, keys(&[]));
    assert_ne!(base.1, keys(&["b".to_owned()]).1);
    fs::write(shim.join("stub.py"), "").expect("write");
    let shimmed = keys(&[]);
    assert_eq!(base.1, shimmed.1, "a shim needs no other wheels");
    assert_ne!(base.0, shimmed.0);
    fs::write(&lock, "a==2 \\\n --hash=sha256:cc\n").expect("write");
    assert_ne!(shimmed.1, keys(&[]).1);
}

#[test]
fn refuses_what_it_could_not_honour() {
    let error = spec(Source::Wheel("/x/shakenfist.tar.gz".into()), &[], &[]).requirements();
    assert!(
        error
            .expect_err("no wheel")
            .to_string()
            .contains("is not a wheel")
    );
    let missing = spec(Source::Lock("/nope/lock".into()), &[], &[]).requirements();
    let missing = missing.expect_err("missing");
    let source = std::error::Error::source(&missing)
        .expect("source")
        .to_string();
    assert!(source.contains("/nope/lock"), "{source}");
}

#[test]
fn reads_a_wheels_name() {
    let name = |path: &str| wheel_name(Path::new(path)).ok();
    assert_eq!(
        name("/w/Shaken_Fist-0.8.0rc4-py3-none-any.whl").as_deref(),
        Some("shaken-fist")
    );
    assert_eq!(name("/w/x-1-2-py3-none-any.whl").as_deref(), Some("x"));
    assert_eq!(name("/w/x.whl"), None);
    assert_eq!(name("/w/x-1.tar.gz"), None);
}

#[test]
fn prunes_tests_and_byte_code_in_packages_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path();
    for folder in [
        "tests",
        "lib/site-packages/pkg/tests",
        "lib/site-packages/pkg/__pycache__",
        "lib/site-packages/tests",
        "bin",
    ] {
        fs::create_dir_all(root.join(folder)).expect("mkdir");
    }
    fs::write(root.join("bin/activate"), "").expect("write");
    fs::write(root.join("bin/tool"), "").expect("write");
    tidy(root).expect("tidy");
    assert!(root.join("tests").exists() && root.join("bin/tool").exists());
    assert!(root.join("lib/site-packages/pkg").exists());
    for gone in [
        "lib/site-packages/pkg/tests",
        "lib/site-packages/tests",
        "bin/activate",
    ] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
}

#[test]
fn normalizes_times_and_modes() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().expect("tempdir");
    let (file, program) = (dir.path().join("f"), dir.path().join("p"));
    fs::write(&file, "").expect("write");
    fs::write(&program, "").expect("write");
    fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    fs_err::os::unix::fs::symlink("/nowhere", dir.path().join("l")).expect("symlink");
    normalize(dir.path(), 1_700_000_000).expect("normalize");
    for (path, mode) in [(&file, 0o644), (&program, 0o755)] {
        let meta = fs::metadata(path).expect("stat");
        assert_eq!((meta.mode() & 0o777, meta.mtime()), (mode, 1_700_000_000));
    }
    let link = fs::symlink_metadata(dir.path().join("l")).expect("stat");
    assert_eq!(link.mtime(), 1_700_000_000);
}
