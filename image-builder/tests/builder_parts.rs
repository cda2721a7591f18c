//! mkosi, the tools tree and the Python environment, for real: needs root, a
//! Debian mirror and the package index, and some minutes with a cold cache.
//! `make test` runs it: `cargo test --test builder_parts -- --ignored`.

#![expect(clippy::print_stderr, reason = "its figures are worth reading")]

use std::path::{Path, PathBuf};

use sf_image::apt::Mirrors;
use sf_image::cache::{Cache, CacheLock};
use sf_image::digest::Key;
use sf_image::mkosi::Mkosi;
use sf_image::progress::Progress;
use sf_image::tools_tree::{Tools, ToolsSpec};
use sf_image::venv::{Source, Venv, VenvError, VenvSpec, VenvTools};

struct Ready {
    cache: Cache,
    lock: CacheLock,
    mkosi: Mkosi,
    tools: Tools,
    progress: Progress,
    log: PathBuf,
}

fn ready() -> Ready {
    let cache = Cache::from_env().expect("SF_CACHE_DIR");
    let lock = cache
        .lock(|holder| eprintln!("waiting for {holder}"))
        .expect("lock");
    let progress = Progress::stderr();
    let log = cache.root().join("infra.log");
    let phase = progress.phase("mkosi");
    let (mkosi, cached) = Mkosi::acquire(&cache, &lock, || Mirrors::of_host(None)).expect("mkosi");
    eprintln!("mkosi {}", mkosi.version());
    phase.done(cached);
    let phase = progress.phase("tools tree");
    let mirrors = Mirrors::of_host(None).expect("mirrors");
    let extra = ["python3-netifaces".to_owned()];
    let spec = ToolsSpec {
        suite: "trixie",
        mirrors: &mirrors,
        extra_packages: &extra,
    };
    let tools = match spec.build(&cache, &lock, &mkosi, &log, &phase) {
        Ok(tools) => tools,
        Err(error) => panic!(
            "{error}: {}",
            std::error::Error::source(&error).expect("source")
        ),
    };
    phase.done(tools.cached);
    Ready {
        cache,
        lock,
        mkosi,
        tools,
        progress,
        log,
    }
}

impl Ready {
    fn venv(&self, lock_file: &Path, epoch: u64) -> Result<Venv, VenvError> {
        let release = lock_file.parent().expect("release folder");
        let shims = [release.join("shims")];
        let skip = ["netifaces".to_owned()];
        let pins = std::fs::read_to_string(lock_file).expect("lock");
        let skip = if pins.contains("\nnetifaces==") {
            &skip[..]
        } else {
            &[]
        };
        let spec = VenvSpec {
            source: Source::Lock(lock_file.to_owned()),
            from_distribution: skip,
            overrides: &[],
            shims: if shims[0].exists() { &shims } else { &[] },
            prefix: "/usr/lib/shakenfist",
            python: "3.13",
            package: "shakenfist",
            epoch,
        };
        let with = VenvTools {
            mkosi: &self.mkosi,
            tools: &self.tools,
        };
        let phase = self.progress.phase("python environment");
        let venv = spec.build(&self.cache, &self.lock, with, &self.log, &phase)?;
        phase.done(venv.cached);
        Ok(venv)
    }
}

#[test]
#[ignore = "needs root and the network; tests/all.sh asks for it"]
fn builds_what_an_image_is_made_with() {
    let ready = ready();
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../releases/0.7/requirements.lock");
    let venv = ready
        .venv(&lock, 1_760_000_000)
        .unwrap_or_else(|e| panic!("{e}: {:?}", e.hint()));
    assert_eq!(venv.version, "0.7.2");
    assert!(venv.path.join("bin/sf-daemon").exists());

    assert!(
        venv.packages()
            .expect("packages")
            .contains(&("flask".into(), "2.2.5".into()))
    );
    eprintln!("{} packages", venv.packages().expect("packages").len());

    // The same again, from the wheels: not a byte may differ.
    let digest = |path: &Path| Key::new("t").tree("venv", path).expect("tree").finish();
    let first = digest(&venv.path);
    std::fs::remove_dir_all(venv.path.parent().expect("entry")).expect("remove");
    let again = ready.venv(&lock, 1_760_000_000).expect("again");
    assert!(!again.cached);
    assert_eq!(digest(&again.path), first);
    assert!(ready.venv(&lock, 1_760_000_000).expect("cached").cached);

    // An operator's wheel, whose dependencies come from the index.
    let wheels = ready.cache.wheels();
    let wheel = std::fs::read_dir(wheels)
        .expect("wheels")
        .flatten()
        .flat_map(|entry| std::fs::read_dir(entry.path()).expect("wheels").flatten())
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("RESTful-"))
        .expect("a wheel");
    let operators = VenvSpec {
        source: Source::Wheel(wheel),
        from_distribution: &[],
        overrides: &["flask<3.1".to_owned()],
        shims: &[],
        prefix: "/usr/lib/shakenfist",
        python: "3.13",
        package: "Flask-RESTful",
        epoch: 1,
    };
    let with = VenvTools {
        mkosi: &ready.mkosi,
        tools: &ready.tools,
    };
    let phase = ready.progress.phase("operator's wheel");
    let built = operators.build(&ready.cache, &ready.lock, with, &ready.log, &phase);
    let built = built.unwrap_or_else(|e| panic!("{e}: {:?}", e.hint()));
    phase.done(built.cached);
    eprintln!(
        "{} {:?}",
        built.version,
        built.packages().expect("packages")
    );

    // What can go wrong, as the operator sees it.
    let dir = tempfile::tempdir().expect("tempdir");
    let bad = dir.path().join("lock");
    let zeros = "0".repeat(64);
    for (pin, want) in [
        (
            "no-such-package-zzz-sf==1",
            "No matching distribution found for no-such-package-zzz-sf==1",
        ),
        ("aniso8601==9.0.1", "wrong hash: aniso8601==9.0.1"),
    ] {
        std::fs::write(&bad, format!("{pin} --hash=sha256:{zeros}\n")).expect("write");
        let error = ready.venv(&bad, 1).expect_err(pin).to_string();
        eprintln!("{error}");
        let either = error.contains(want) || error.contains("satisfies the requirement");
        assert!(either, "{error}");
    }
    for timing in ready.progress.timings() {
        eprintln!("{timing:?}");
    }
}
