//! Shaken Fist versions (PEP 440, `0.8.0rc4`, not semver) and the release
//! series that compatibility is judged by: N and N+1 may run together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release series: major and minor of a version, `0.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    major: u64,
    minor: u64,
}

impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| -> Option<u64> {
            let plain = !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'));
            plain.then(|| part.parse().ok()).flatten()
        };
        text.split_once('.')
            .and_then(|(major, minor)| {
                Some(Self {
                    major: number(major)?,
                    minor: number(minor)?,
                })
            })
            .ok_or_else(|| {
                format!("\"{text}\" is not a release series; write it as MAJOR.MINOR, such as 0.7")
            })
    }
}

impl Serialize for Series {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A Shaken Fist version in PEP 440's form, kept as it was written. Equality
/// and order are PEP 440's: `0.8` is `0.8.0`, and `0.8rc4` is `0.8.0-rc.4`.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    parsed: pep440_rs::Version,
}

impl Version {
    /// The series that this version belongs to; a pre-release belongs to the
    /// series that it comes before (`0.8.0rc4` to 0.8).
    pub fn series(&self) -> Series {
        let release = self.parsed.release();
        Series {
            major: release.first().copied().unwrap_or_default(),
            minor: release.get(1).copied().unwrap_or_default(),
        }
    }

    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.parsed == other.parsed
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parsed.cmp(&other.parsed)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .parse::<pep440_rs::Version>()
            .map_err(|error| format!("\"{text}\" is not a PEP 440 version: {error}"))?;
        Ok(Self {
            text: text.to_owned(),
            parsed,
        })
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_is_that_of_pep_440() {
        let ordered = [
            "0.7.2",
            "0.8.0.dev1",
            "0.8.0a1",
            "0.8.0rc4",
            "0.8.0",
            "0.8.0.post1",
            "0.10.0",
        ];
        for pair in ordered.windows(2) {
            let (low, high): (Version, Version) =
                (pair[0].parse().unwrap(), pair[1].parse().unwrap());
            assert!(low < high, "{low} < {high}");
        }
    }

    /// Against the order that Python's packaging gives (and so pip installs by).
    #[test]
    fn order_and_series_are_those_of_pythons_packaging() {
        let table = include_str!("../../tests/fixtures/pep440/ordered.txt");
        let mut ordered: Vec<Vec<Version>> = Vec::new();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            if let Some(wrong) = line.strip_prefix("! ") {
                assert!(wrong.parse::<Version>().is_err(), "{wrong} is no version");
                continue;
            }
            let (series, equal) = line.split_once(' ').unwrap();
            let equal: Vec<Version> = equal
                .split(' ')
                .map(|text| text.parse().unwrap_or_else(|error| panic!("{error}")))
                .collect();
            for version in &equal {
                assert_eq!(version.series().to_string(), series, "{version}");
            }
            ordered.push(equal);
        }
        assert!(ordered.len() > 300);
        for (index, equal) in ordered.iter().enumerate() {
            for one in equal {
                for (other_index, others) in ordered.iter().enumerate() {
                    for other in others {
                        assert_eq!(
                            one.partial_cmp(other),
                            Some(index.cmp(&other_index)),
                            "{one} and {other}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn spellings_of_one_version_are_equal() {
        for (one, other) in [
            ("0.8", "0.8.0"),
            ("0.8rc4", "0.8.0-RC.4"),
            ("0.8.0a1", "0.8alpha1"),
            ("0.8.post1", "0.8-1"),
            ("v0.8", "0.8"),
        ] {
            let (one, other): (Version, Version) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one, other);
            assert_eq!(one.cmp(&other), std::cmp::Ordering::Equal);
        }
        assert_ne!(
            "0.8".parse::<Version>().unwrap(),
            "0.8.post1".parse::<Version>().unwrap()
        );
    }

    #[test]
    fn a_pre_release_belongs_to_the_coming_series() {
        assert_eq!(
            "0.8.0rc4".parse::<Version>().unwrap().series().to_string(),
            "0.8"
        );
        assert_eq!("1".parse::<Version>().unwrap().series().to_string(), "1.0");
    }

    #[test]
    fn odd_series_are_refused() {
        for text in ["", "7", "0.7.2", "0.07", "a.b", "0.", "+0.7", " 0.7"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }

    /// A version in parts: release, pre-release, post-release, development.
    type Parts = ([u64; 3], Option<(usize, u64)>, Option<u64>, Option<u64>);

    fn parts() -> impl Strategy<Value = Parts> {
        (
            prop::array::uniform3(0u64..3),
            prop::option::of((0usize..3, 0u64..3)),
            prop::option::of(0u64..3),
            prop::option::of(0u64..3),
        )
    }

    fn written((release, pre, post, dev): Parts) -> String {
        let number = |name: &str, number: Option<u64>| {
            number
                .map(|number| format!("{name}{number}"))
                .unwrap_or_default()
        };
        let [major, minor, patch] = release;
        let pre = pre.map(|(kind, number)| format!("{}{number}", ["a", "b", "rc"][kind]));
        format!(
            "{major}.{minor}.{patch}{}{}{}",
            pre.unwrap_or_default(),
            number(".post", post),
            number(".dev", dev)
        )
    }

    /// PEP 440's order in a key of our own: a development release comes before
    /// what it leads to; without any suffix but `.dev` that is before `a0`.
    fn key((release, pre, post, dev): Parts) -> impl Ord {
        const LAST: u64 = u64::MAX;
        let pre = match (pre, post, dev) {
            (None, None, Some(_)) => (0, 0),
            (None, ..) => (9, 0),
            (Some((kind, number)), ..) => (1 + kind, number),
        };
        (release, pre, post, dev.unwrap_or(LAST))
    }

    proptest! {
        /// As numbers, not as texts: 0.10 comes after 0.9.
        #[test]
        fn series_are_ordered_as_numbers(a in (0u64..30, 0u64..30), b in (0u64..30, 0u64..30)) {
            let series = |(major, minor): (u64, u64)| {
                format!("{major}.{minor}").parse::<Series>().unwrap()
            };
            prop_assert_eq!(series(a).cmp(&series(b)), a.cmp(&b));
        }

        #[test]
        fn versions_are_ordered_as_pep_440_says(one in parts(), other in parts()) {
            let (a, b): (Version, Version) = (written(one).parse().unwrap(), written(other).parse().unwrap());
            prop_assert_eq!(a.cmp(&b), key(one).cmp(&key(other)), "{} and {}", a, b);
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.as_str(), written(one));
        }

        /// Whatever comes after the first two numbers.
        #[test]
        fn a_version_belongs_to_the_series_of_its_first_two_numbers(one in parts(), more in "[0-9]{1,3}") {
            let version: Version = written(one).parse().unwrap();
            let series = version.series();
            prop_assert_eq!(series, Series { major: one.0[0], minor: one.0[1] });
            let later: Version = format!("{series}.{more}").parse().unwrap();
            prop_assert_eq!(later.series(), series);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}|[0-9.a-z!+-]{0,30}") {
            let _ = text.parse::<Version>().map(|version| version.series());
            let _ = text.parse::<Series>();
        }

        #[test]
        fn series_round_trip(major in 0u64..100, minor in 0u64..100) {
            let series = Series { major, minor };
            prop_assert_eq!(series.to_string().parse(), Ok(series));
        }
    }
}
