//! The clock: what it cannot say, and what the database server's says.

use std::os::unix::fs::MetadataExt as _;

use super::{Context, Found};
use crate::clock;
use crate::codes;
use crate::failure::Failure;
use crate::pki::day;

/// From how many seconds of difference on somebody is told. Requests between
/// nodes take milliseconds; what is more than a few seconds is no latency but
/// a clock that nobody keeps.
const SKEW: f64 = 5.0;

/// When the image was made: every file in it has its build's time stamp.
/// Nothing at a desk, where there is no image.
pub(super) fn image_made(context: &Context<'_>) -> Option<i64> {
    if !context.on_node {
        return None;
    }
    let meta = std::fs::metadata(context.paths.manifest()).ok()?;
    Some(meta.mtime())
}

/// The clock is not before the image that it runs in.
pub(super) fn plausible(context: &Context<'_>) -> Found {
    let now = clock::now_seconds();
    match image_made(context) {
        Some(made) => judge(now, made).map_or_else(
            || Found::noted(format!("this node's clock says {}", day(now))),
            |failure| Found::Failed {
                findings: vec![failure],
            },
        ),
        None => Found::skipped("this image has no date"),
    }
}

fn judge(now: i64, made: i64) -> Option<Failure> {
    (now < made).then(|| {
        Failure::new(
            &codes::CLOCK_WRONG,
            format!(
                "this node's clock says {}, but its image was made on {}",
                day(now),
                day(made)
            ),
        )
        .value(day(now))
        .source("the system clock")
        .next_command("timedatectl status")
    })
}

/// The database server's clock agrees with this node's.
pub(super) fn agrees(context: &Context<'_>) -> Found {
    let Some(session) = &context.session else {
        return Found::skipped(super::NO_DATABASE);
    };
    let server = session.server();
    match skewed(session.clock_ahead(), server) {
        None => Found::noted(format!(
            "the clock of {server} is within {SKEW:.0} s of this one"
        )),
        Some(failure) => Found::Failed {
            findings: vec![failure],
        },
    }
}

fn skewed(ahead: f64, server: &str) -> Option<Failure> {
    if ahead.abs() <= SKEW {
        return None;
    }
    let (how, whose) = if ahead > 0.0 {
        ("ahead of", "behind")
    } else {
        ("behind", "ahead of")
    };
    let amount = ahead.abs();
    Some(
        Failure::new(
            &codes::CLOCK_SKEW,
            format!(
                "the clock of the database server {server} is {amount:.0} s {how} this machine's"
            ),
        )
        .value(format!("{ahead:+.1} s"))
        .source("SELECT UNIX_TIMESTAMP()")
        .remedy(format!(
            "See which of the two is wrong (`date --utc` on both): either the server is {how} the \
             true time, or this machine is {whose} it. Synchronise both with NTP."
        ))
        .next_command("timedatectl timesync-status"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_image_is_transient_and_says_both_times() {
        assert!(judge(1_760_000_000, 1_760_000_000).is_none());
        let failure = judge(1_561_939_200, 1_760_000_000).unwrap();
        assert_eq!(failure.code.id, "SF-CLOCK-WRONG");
        assert_eq!(
            failure.what,
            "this node's clock says 2019-07-01 00:00 UTC, but its image was made on 2025-10-09 08:53 UTC"
        );
        assert!(failure.kind().retried());
    }

    #[test]
    fn clocks_may_differ_by_five_seconds_and_the_one_ahead_is_named() {
        for near in [0.0, 5.0, -5.0] {
            assert!(skewed(near, "db1:3306").is_none(), "{near}");
        }
        for (ahead, said, remedy) in [
            (
                5.1,
                "db1:3306 is 5 s ahead of this machine's",
                "the server is ahead of the true time, or this machine is behind it",
            ),
            (
                -90.0,
                "db1:3306 is 90 s behind this machine's",
                "the server is behind the true time, or this machine is ahead of it",
            ),
        ] {
            let failure = skewed(ahead, "db1:3306").unwrap();
            assert_eq!(failure.code.id, "SF-CLOCK-SKEW");
            assert!(failure.what.ends_with(said), "{}", failure.what);
            assert!(failure.remedy_text().contains(remedy), "{failure:?}");
        }
    }
}
