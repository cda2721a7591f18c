//! The time as it is written down.

/// Now, UTC, RFC 3339 with milliseconds: `2026-11-23T12:58:18.123Z`.
pub fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

/// Now, in seconds since 1970.
pub fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}
