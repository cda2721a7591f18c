//! The time as it is written down.

/// Now, UTC, RFC 3339 with milliseconds: `2026-11-23T12:58:18.123Z`.
pub fn now() -> String {
    written(jiff::Timestamp::now())
}

/// The same of a time of the file system's; `None` out of all bounds.
pub fn of_file(time: std::time::SystemTime) -> Option<String> {
    time.try_into().ok().map(written)
}

fn written(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Now, in seconds since 1970.
pub fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// UNIX seconds for a person: `2026-11-23 12:58:18 UTC`.
pub fn at(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "times that do not fit saturate, and are then out of jiff's range"
    )]
    jiff::Timestamp::from_second(seconds as i64).map_or_else(
        |_| "at an impossible time".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// How long ago `then` was at `now`, both UNIX seconds, in at most four
/// characters: `45s`, `12m`, `5h`, `31d`; `?` for a time to come.
pub fn ago(then: f64, now: f64) -> String {
    // Clocks of nodes differ a little, and a lot when they are wrong.
    const SKEW: f64 = 60.0;
    let age = now - then;
    if age < -SKEW {
        return "?".into();
    }
    let age = age.max(0.0);
    for (limit, divisor, unit) in [
        (120.0, 1.0, 's'),
        (7200.0, 60.0, 'm'),
        (172_800.0, 3600.0, 'h'),
    ] {
        if age < limit {
            return format!("{:.0}{unit}", (age / divisor).floor());
        }
    }
    format!("{:.0}d", (age / 86_400.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_readable() {
        assert_eq!(at(1_763_902_698.9), "2025-11-23 12:58:18 UTC");
        assert_eq!(at(f64::INFINITY), "at an impossible time");
        for (seconds, text) in [
            (0.0, "0s"),
            (119.9, "119s"),
            (120.0, "2m"),
            (7199.0, "119m"),
            (7200.0, "2h"),
            (172_800.0, "2d"),
            (-5.0, "0s"),
            (-90.0, "?"),
        ] {
            assert_eq!(ago(1e9 - seconds, 1e9), text, "{seconds}");
        }
    }
}
