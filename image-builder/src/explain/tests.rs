//! Logs recorded from real failures, and the line that must be shown.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("recorded/", $name, ".log"))
    };
}

#[test]
fn names_the_line_that_explains() {
    for (log, cause, want) in [
        (
            recorded!("unknown-package"),
            Cause::NoSuchPackage,
            "E: Unable to locate package no-such-package-at-all",
        ),
        (
            recorded!("no-network"),
            Cause::Network,
            "Could not resolve 'nosuch.invalid'",
        ),
        (
            recorded!("disk-full"),
            Cause::DiskFull,
            "No space left on device",
        ),
        (
            recorded!("bad-setting"),
            Cause::Configuration,
            "Unknown setting Bootabel",
        ),
        (recorded!("script"), Cause::Unknown, "something broke"),
        (
            recorded!("too-big"),
            Cause::TooBig,
            "(90.1M) don't fit in the partition (10M).",
        ),
        (
            recorded!("missing-tool"),
            Cause::Configuration,
            "reprepro not found.",
        ),
        (recorded!("killed"), Cause::Killed, "was killed by SIGKILL"),
        (
            recorded!("pip-no-such-package"),
            Cause::NoSuchPackage,
            "satisfies the requirement nosuchpackage-zzz-sf==1.0",
        ),
        (
            recorded!("pip-hash"),
            Cause::Untrusted,
            "wrong hash: aniso8601==9.0.1 from https://",
        ),
        (
            recorded!("pip-no-network"),
            Cause::Network,
            "Name or service not known",
        ),
    ] {
        let found = explain(log).expect("explained");
        assert!(found.line.contains(want), "wanted `{want}`, got {found:?}");
        assert_eq!(found.cause, cause, "{found:?}");
        assert!(
            !found.line.contains("returned non-zero exit code"),
            "{found:?}"
        );
        assert!(!found.line.starts_with('‣'), "{found:?}");
    }
}

#[test]
fn an_empty_or_unknown_log_invents_nothing() {
    assert_eq!(explain(""), None);
    assert_eq!(explain("‣ \"x\" returned non-zero exit code 1.\n"), None);
    let unknown = explain("a\nb\n‣ (Cleaning up)\n").expect("explained");
    assert_eq!(
        (unknown.line.as_str(), unknown.cause),
        ("b", Cause::Unknown)
    );
}

#[test]
fn what_packages_write_early_does_not_count_as_the_end() {
    let mut log = "chmod: Permission denied\n".to_owned();
    for _ in 0..END {
        log.push_str("Setting up a package\n");
    }
    log.push_str("something broke\n");
    assert_eq!(explain(&log).expect("explained").line, "something broke");
}
