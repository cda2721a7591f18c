//! The command as people call it: what goes to which stream, exit codes, and
//! the errors for bad input that need neither root nor network.

use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_command::{Cmd, Failure};

/// What a run of the command came to.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs sf-image in `folder` with a cache of its own.
fn run(folder: &Path, args: &[&str]) -> Ran {
    let cache = tempfile::tempdir().expect("tempdir");
    let out = cache.path().join("stdout");
    let err = cache.path().join("stderr");
    let mut child = Cmd::path(env!("CARGO_BIN_EXE_sf-image"))
        .args(args)
        .cwd(folder)
        .env("SF_CACHE_DIR", cache.path().join("cache"))
        .env("COLUMNS", "200")
        .stdout(sf_command::Sink::File(out.clone()))
        .stderr(sf_command::Sink::File(err.clone()))
        .spawn()
        .expect("starts");
    let status = child.wait().expect("ends");
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    Ran {
        code: status.code().expect("no signal"),
        stdout: read(&out),
        stderr: read(&err),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("root")
        .to_owned()
}

/// A copy of this repository's documents that a test may spoil.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    for name in [
        "profiles",
        "releases",
        "mkosi.conf.d",
        "mkosi.extra",
        "mkosi.repart",
        "mkosi.images",
        "mkosi.finalize",
    ] {
        let from = repository().join(name);
        let status: Result<_, Failure> = Cmd::new(sf_command::Tool::Cp)
            .arg("-a")
            .arg(from)
            .arg(dir.path())
            .run();
        status.expect("copied");
    }
    dir
}

fn replace(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.contains(from), "{file} has no {from}");
    fs::write(path, text.replacen(from, to, 1)).expect("write");
}

#[test]
fn this_repository_is_right() {
    let ran = run(&repository(), &["check"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.ends_with("are right\n"), "{}", ran.stdout);
    let below = run(&repository().join("docs"), &["check"]);
    assert_eq!(below.code, 0, "{}", below.stderr);
}

#[test]
fn all_mistakes_are_shown_with_their_places_in_one_run() {
    let dir = copy();
    replace(
        dir.path(),
        "profiles/hypervisor.toml",
        "extends = \"base\"",
        "extends = \"bsae\"",
    );
    replace(
        dir.path(),
        "profiles/network.toml",
        "role = \"network\"",
        "rôle = 1",
    );
    replace(
        dir.path(),
        "profiles/base.toml",
        "\"transfers\"",
        "\"transfer\"",
    );
    replace(
        dir.path(),
        "releases/0.7/release.toml",
        "series = \"0.7\"",
        "series = \"0.8\"",
    );
    fs::write(
        dir.path().join("profiles/loop.toml"),
        "schema = 1\nsummary = \"x\"\nextends = \"loop\"\n",
    )
    .expect("write");
    let ran = run(dir.path(), &["check"]);
    assert_eq!(ran.code, 78);
    assert_eq!(ran.stdout, "");
    for part in [
        "there is no profile \"bsae\"",
        "did you mean \"base\"?",
        "--> profiles/hypervisor.toml:",
        "--> profiles/network.toml:",
        "has no daemon \"transfer\"",
        "did you mean \"transfers\"?",
        "version 0.7.2 belongs to series 0.7",
        "--> releases/0.7/release.toml:",
        "circle: loop -> loop",
        "problems in 5 files",
        "error: the profiles and releases are not right",
    ] {
        assert!(ran.stderr.contains(part), "no {part} in\n{}", ran.stderr);
    }
    // A build stops at the same point, before it asks for anything.
    assert_eq!(run(dir.path(), &["build", "--profile", "network"]).code, 78);
}

#[test]
fn list_shows_what_there_is() {
    let text = run(&repository(), &["list"]);
    for part in [
        "Profiles:",
        "  hypervisor ",
        "(not built)",
        "Releases:",
        "  0.7 ",
        "  develop ",
    ] {
        assert!(text.stdout.contains(part), "{}", text.stdout);
    }
    let json = run(&repository(), &["list", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let names: Vec<_> = value["profiles"]
        .as_array()
        .expect("list")
        .iter()
        .map(|p| p["name"].clone())
        .collect();
    assert_eq!(names, ["base", "database-tier", "hypervisor", "network"]);
    assert_eq!(value["releases"][0]["version"], "0.7.2");
    assert_eq!(value["profiles"][0]["buildable"], false);
}

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    for (args, message, hint) in [
        (
            &["build", "--profile", "hypervizor"][..],
            "error: there is no profile \"hypervizor\"",
            "did you mean \"hypervisor\"?",
        ),
        (
            &["build", "--profile", "web"],
            "error: there is no profile \"web\"",
            "profiles here: base, database-tier, hypervisor, network",
        ),
        (
            &["build", "--profile", "base"],
            "error: profile \"base\" has no role",
            "profiles to build: database-tier, hypervisor, network",
        ),
        (
            &["build", "--profile", "network", "--release", "0.8"],
            "error: there is no release \"0.8\"",
            "releases here: 0.7, develop",
        ),
        (
            &["build", "--profile", "network", "--image-version", "1_2"],
            "error: \"1_2\" is not an image version",
            "--image-version",
        ),
        (
            &[
                "build",
                "--profile",
                "database-tier",
                "--image-version",
                "0.7.2-1234567",
            ],
            "leaves room for 12",
            "--image-version",
        ),
        (
            &[
                "render",
                "--profile",
                "network",
                "--config-only",
                "--output-dir",
                "/proc",
            ],
            "error: /proc is there already",
            "--output-dir",
        ),
        (
            &["check", "--root", "/proc"],
            "error: /proc is no checkout of sf-image",
            "--root DIR",
        ),
    ] {
        let ran = run(&repository(), args);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (64, ""),
            "{args:?}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("hint: ") && ran.stderr.contains(hint),
            "{args:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn usage_is_64_and_help_is_data() {
    let unknown = run(&repository(), &["build", "--profil", "x"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (64, ""));
    assert!(unknown.stderr.contains("--profile"), "{}", unknown.stderr);
    assert_eq!(run(&repository(), &["build"]).code, 64);
    let help = run(&repository(), &["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    for command in ["build", "check", "render", "list", "boot-test"] {
        assert!(
            help.stdout.contains(&format!("  {command} ")),
            "{}",
            help.stdout
        );
    }
    assert_eq!(run(&repository(), &["--version"]).code, 0);
}

#[test]
fn json_has_a_schema_and_the_exit_code_of_the_process() {
    let node = "examples/metadata/hypervisor.toml";
    for args in [
        &["list", "--json"][..],
        &["list", "--root", "/nowhere", "--json"],
        &["metadata", "check", node, "--json"],
        &["metadata", "check", "/nowhere.toml", "--json"],
        &["boot-test", "--scenario", "/nowhere.toml", "--json"],
        &["boot-test", "--scenario", "Cargo.toml", "--json"],
    ] {
        let ran = run(&repository(), args);
        let value: serde_json::Value = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", ran.stdout));
        assert_eq!(value["schema"], 1, "{args:?}");
        if args[0] != "list" || ran.code != 0 {
            assert_eq!(value["exit_code"], ran.code, "{args:?}");
        }
    }
}

#[test]
fn half_an_answer_is_a_failure() {
    let errors = tempfile::NamedTempFile::new().expect("file");
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["metadata", "new", "--profile", "network"],
        &["metadata", "check", "examples/metadata/hypervisor.toml"],
    ] {
        let mut child = Cmd::path(env!("CARGO_BIN_EXE_sf-image"))
            .args(args)
            .cwd(repository())
            .stdout(sf_command::Sink::File("/dev/full".into()))
            .stderr(sf_command::Sink::File(errors.path().into()))
            .spawn()
            .expect("starts");
        let status = child.wait().expect("ends");
        assert_eq!(status.code(), Some(69), "{args:?}");
    }
    let said = fs::read_to_string(errors.path()).expect("text");
    assert_eq!(said.matches("No space left").count(), 4, "{said}");
}

#[test]
fn json_errors_are_one_object_on_stdout() {
    let ran = run(&repository(), &["build", "--profile", "web", "--json"]);
    assert_eq!(ran.code, 64);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(value["error"], "there is no profile \"web\"");
    assert_eq!(value["exit_code"], 64);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn render_writes_the_whole_configuration() {
    let dir = copy();
    let ran = run(
        dir.path(),
        &[
            "render",
            "--profile",
            "hypervisor",
            "--config-only",
            "--image-version",
            "0.7.2-9",
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let folder = dir.path().join("out/rendered/hypervisor");
    assert_eq!(
        fs::canonicalize(ran.stdout.trim()).expect("there"),
        fs::canonicalize(&folder).expect("there")
    );
    let conf = fs::read_to_string(folder.join("mkosi.conf")).expect("conf");
    assert!(
        conf.contains("ImageId=sf-hypervisor\nImageVersion=0.7.2-9\n"),
        "{conf}"
    );
    for file in [
        "mkosi.finalize",
        "mkosi.repart/10-usr.conf",
        "release.extra/usr/lib/tmpfiles.d/20-shakenfist-0.7.conf",
    ] {
        assert!(folder.join(file).exists(), "{file}");
    }
    // Without inputs nothing pretends to be complete.
    assert!(!folder.join("venv").exists() && !folder.join("mkosi.local.conf").exists());
    // Its own folder is replaced, what was in it goes.
    fs::write(folder.join("stale"), "").expect("write");
    let again = run(
        dir.path(),
        &[
            "render",
            "--profile",
            "hypervisor",
            "--config-only",
            "--image-version",
            "0.7.2-9",
        ],
    );
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!folder.join("stale").exists());
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let dir = copy();
    let tree = |output: &str| {
        let ran = run(
            dir.path(),
            &[
                "render",
                "--profile",
                "network",
                "--config-only",
                "--image-version",
                "1",
                "--output-dir",
                output,
            ],
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        sf_image::tree::Tree::read(&dir.path().join(output), "").expect("read")
    };
    assert_eq!(tree("a"), tree("b"));
}

#[test]
fn a_release_from_a_wheel_asks_for_one() {
    // Rendered and validated without; the wheel is asked for before anything is
    // brought, and before root is needed.
    let dir = copy();
    let ran = run(
        dir.path(),
        &[
            "render",
            "--release",
            "develop",
            "--profile",
            "database-tier",
            "--config-only",
            "--image-version",
            "1",
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let unit =
        "out/rendered/database-tier/profile.extra/usr/lib/systemd/system/sf-database.service";
    assert!(dir.path().join(unit).exists());
    for (args, message) in [
        (
            &["build", "--release", "develop", "--profile", "network"][..],
            "is installed from your own wheel, and none is named",
        ),
        (
            &[
                "build",
                "--release",
                "develop",
                "--profile",
                "network",
                "--wheel",
                "nope.whl",
            ],
            "there is no wheel nope.whl",
        ),
        (
            &[
                "build",
                "--release",
                "0.7",
                "--profile",
                "network",
                "--wheel",
                "x.whl",
            ],
            "takes no wheel",
        ),
    ] {
        let ran = run(dir.path(), args);
        assert_eq!(ran.code, 64, "{}", ran.stderr);
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
    }
}

#[test]
fn an_output_folder_that_cannot_be_written_is_named_before_the_work() {
    let ran = run(
        &repository(),
        &[
            "build",
            "--profile",
            "network",
            "--image-version",
            "1",
            "--output-dir",
            "/proc/nope",
        ],
    );
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("/proc/nope") || ran.stderr.contains("root is needed"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_scenario_that_is_not_there_is_named() {
    let ran = run(
        &repository(),
        &["boot-test", "--scenario", "tests/boot/nope.toml"],
    );
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("tests/boot/nope.toml"),
        "{}",
        ran.stderr
    );
}
