//! mkosi, the tools tree and the Python environment, for real: needs root, a
//! Debian mirror and the package index, and some minutes with a cold cache.
//! Run with `SF_CACHE_DIR=DIR cargo test --test infra_real -- --ignored --nocapture`.

#![expect(
    clippy::print_stderr,
    reason = "these tests are run by hand, for their figures"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_command::{Cmd, Tool};

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
#[ignore = "needs root and the network"]
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

/// Command lines of running processes that name `text`.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(text) {
                found.push(line);
            }
        }
    }
    found
}

/// Not a test: the build that `a_killed_build_leaves_nothing_running` kills.
#[test]
#[ignore = "the victim of another test"]
fn victim() {
    if std::env::var_os("SF_VICTIM").is_some() {
        ready();
    }
}

#[test]
#[ignore = "needs root and the network"]
fn a_killed_build_leaves_nothing_running() {
    let shared = ready();
    let dir = tempfile::tempdir_in(shared.cache.root()).expect("tempdir");
    // Its own cache, without a tools tree but with everything fetched.
    let cache = Cache::at(dir.path().join("cache"));
    drop(cache.lock(|_| ()).expect("lock"));
    for (from, to) in [
        (shared.cache.mkosi(), cache.mkosi()),
        (shared.cache.packages(), cache.packages()),
    ] {
        let copy = Cmd::new(Tool::Cp).arg("-a").arg(from.join(".")).arg(to);
        copy.run().expect("cp");
    }
    let start = || {
        Cmd::path(std::env::current_exe().expect("exe"))
            .args(["--ignored", "--exact", "victim", "--nocapture"])
            .env("SF_VICTIM", "1")
            .env("SF_CACHE_DIR", cache.root())
            .log_to(dir.path().join("victim.log"))
            .spawn()
            .expect("spawn")
    };
    let mut victim = start();
    let log = cache.root().join("infra.log");
    let begun = Instant::now();
    let installing = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Unpacking"));
    while !installing() {
        assert!(begun.elapsed() < Duration::from_mins(2), "never began");
        std::thread::sleep(Duration::from_millis(50));
    }
    let place = cache.root().display().to_string();
    assert!(processes(&place).len() > 1, "mkosi runs");
    victim.kill().expect("kill");
    let killed = Instant::now();
    while !processes(&place).is_empty() {
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "{:?}",
            processes(&place)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("all gone {:?} after the kill", killed.elapsed());
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&place), "{mounts}");

    let mut again = start();
    let status = again.wait().expect("wait");
    let log = std::fs::read_to_string(dir.path().join("victim.log")).unwrap_or_default();
    assert!(status.success(), "{log}");
    eprintln!("the next build works: {log}");
}

#[test]
#[ignore = "needs SF_RENDERED, a rendered mkosi folder, and SF_IMAGE_STEM, its Output="]
fn builds_and_publishes_an_image() {
    use sf_image::collect::{Expect, collect, usr_root_hash};
    use sf_image::mkosi_run::MkosiRun;
    use sf_image::publish::Publication;
    let rendered = PathBuf::from(std::env::var_os("SF_RENDERED").expect("SF_RENDERED"));
    let stem = std::env::var("SF_IMAGE_STEM").expect("SF_IMAGE_STEM");
    let ready = ready();
    let publication = Publication::begin(&ready.cache.root().join("out/1")).expect("begin");
    let output = publication.folder().join("mkosi");
    std::fs::create_dir(&output).expect("mkdir");
    let run = MkosiRun {
        mkosi: &ready.mkosi,
        folder: rendered,
        output: output.clone(),
        workspace: ready.cache.work(),
        packages: ready.cache.packages(),
        base: Some(ready.cache.base("real")),
        tools: Some(ready.tools.tree.clone()),
        sandbox: ready.tools.sandbox.clone(),
        extra: Vec::new(),
    };
    std::fs::create_dir_all(ready.cache.base("real")).expect("mkdir");
    let phase = ready.progress.phase("image");
    let built = run.run(publication.log(), &phase);
    built.unwrap_or_else(|error| panic!("{error} {:?}", error.hint()));
    phase.done(false);
    let phase = ready.progress.phase("checksums");
    let folder = publication.folder();
    let artefacts = collect(&output, folder, &Expect::disk(&stem)).expect("collect");
    eprintln!("{}", usr_root_hash(folder, &artefacts).expect("root hash"));
    std::fs::remove_dir_all(&output).expect("remove");
    phase.done(false);
    let phase = ready.progress.phase("publish");
    let sums: Vec<_> = artefacts
        .iter()
        .map(|a| (a.name.clone(), a.sha256.clone()))
        .collect();
    let published = publication.commit(&sums).expect("commit");
    phase.done(false);
    for timing in ready.progress.timings() {
        eprintln!("{timing:?}");
    }
    let names: Vec<_> = std::fs::read_dir(&published)
        .expect("read")
        .flatten()
        .collect();
    eprintln!("{names:?}");
}

#[test]
#[ignore = "compiles the agent, for a minute or two"]
fn compiles_an_agent_that_the_image_can_run() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("checkout");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target
        .unwrap_or_else(|| checkout.join("target"))
        .join("agent");
    let start = Instant::now();
    let agent = sf_image::agent_binary::compile(checkout, &target, "2.41", |_| ());
    let agent = agent.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{agent:?} {:?}", start.elapsed());
    let bytes = std::fs::read(&agent.path).expect("read");
    let home = std::env::var("HOME").expect("HOME");
    for place in [format!("{home}/.cargo"), checkout.display().to_string()] {
        assert!(
            !bytes.windows(place.len()).any(|w| w == place.as_bytes()),
            "{place}"
        );
    }
}
