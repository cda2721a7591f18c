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

/// A Shaken Fist version in PEP 440's form, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.parsed.partial_cmp(&other.parsed)
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
        fn series_round_trip(major in 0u64..100, minor in 0u64..100) {
            let series = Series { major, minor };
            prop_assert_eq!(series.to_string().parse(), Ok(series));
        }
    }
}
