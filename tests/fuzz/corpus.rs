//! Every file of the fuzzing corpora through its target: what once broke a
//! parser, and one example of each kind of input.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets call them from outside")]
mod targets;

use targets::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("entry").file_name())
        .map(|name| name.into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn no_corpus_file_breaks_its_parser() {
    for (target, run) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let files = names(&folder);
        assert!(files.len() >= 3, "{target} has next to no corpus");
        for file in files {
            let data = fs::read(folder.join(&file)).expect("read");
            assert!(data.len() <= 80 * 1024, "{target}/{file} is not minimal");
            // A panic names the target by its place; the file is told here.
            assert!(
                std::panic::catch_unwind(|| run(&data)).is_ok(),
                "fuzz/corpus/{target}/{file} breaks its parser; the reason is above"
            );
        }
    }
}

#[test]
fn every_target_has_its_program_and_its_corpus() {
    let mut wanted: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    wanted.sort();
    assert_eq!(names(&fuzz().join("corpus")), wanted);
    let programs: Vec<String> = wanted.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), programs);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("read");
    for name in wanted {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "fuzz/Cargo.toml does not build {name}"
        );
    }
}
