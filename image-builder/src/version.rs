//! Image versions.
//!
//! Owns: which texts are one, how long one may be, and the version of a build
//! for which none was given. Refuses: what systemd-sysupdate or a GPT label
//! could not carry.

use std::fmt;

use sf_contract::series::Version;

/// UTF-16 units that a GPT partition's label holds.
const LABEL: usize = 36;
/// The longest label of an image: `<id>_<version>_verity`.
const AROUND: usize = "_".len() + "_verity".len();

/// A version that every file name, label and update pattern can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVersion(String);

/// Why a text is no image version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It has other characters.
    #[error(
        "\"{text}\" is not an image version: it begins with a letter or digit and has letters, digits, '.' and '-'"
    )]
    Characters {
        /// The text.
        text: String,
    },
    /// A partition's label cannot hold it.
    #[error("the image version \"{text}\" has {} characters, and {image_id} leaves room for {room}: the label {image_id}_{text}_verity of the partition must fit into {LABEL}", text.len())]
    Long {
        /// The text.
        text: String,
        /// The image that it is for.
        image_id: String,
        /// Characters that would fit.
        room: usize,
    },
}

impl ImageVersion {
    /// Checks a version for an image. `_` separates the parts of a file's name,
    /// `+` begins the boot counter, and other characters are not for
    /// systemd-sysupdate.
    pub fn new(text: &str, image_id: &str) -> Result<Self, VersionError> {
        let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        if !plain {
            return Err(VersionError::Characters {
                text: text.to_owned(),
            });
        }
        let room = LABEL.saturating_sub(image_id.len() + AROUND);
        if text.len() > room {
            return Err(VersionError::Long {
                text: text.to_owned(),
                image_id: image_id.to_owned(),
                room,
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of an image when none was given: Shaken Fist's version and the
/// number of commits that the builder's source has, so that a later checkout
/// makes a later version. PEP 440's pre-releases are written so that systemd
/// sorts them before the release: `0.8.0rc4` becomes `0.8.0-0rc4`, because
/// systemd compares `0.8.0-0…` and `0.8.0-<commits>` by their numbers.
pub fn derived(shakenfist: &Version, commits: u32) -> String {
    let text = shakenfist.as_str().to_ascii_lowercase();
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (release, rest) = text.split_at(end);
    let release = release.trim_end_matches('.');
    let rest: String = rest
        .chars()
        .map(|c| if c == '+' || c == '_' { '.' } else { c })
        .collect();
    match rest.as_str() {
        "" => format!("{release}-{commits}"),
        dev if dev.starts_with("dev") => format!("{release}-0-{dev}-{commits}"),
        post if post.starts_with("post") => format!("{release}.{post}-{commits}"),
        pre => format!("{release}-0{pre}-{commits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn what_labels_and_patterns_cannot_carry_is_refused() {
        for text in ["1", "0.7.2-12", "2026.01.02", "0.8.0-0rc4"] {
            assert_eq!(
                ImageVersion::new(text, "sf-network").expect(text).as_str(),
                text
            );
        }
        for text in [
            "", "-1", ".1", "1_2", "1+3", "1 2", "1/2", "ä", "1~2", "1:2",
        ] {
            assert!(
                matches!(
                    ImageVersion::new(text, "sf-x"),
                    Err(VersionError::Characters { .. })
                ),
                "{text}"
            );
        }
        let error = ImageVersion::new("0.7.2-1234567", "sf-database-tier").expect_err("long");
        assert_eq!(
            error.to_string(),
            "the image version \"0.7.2-1234567\" has 13 characters, and sf-database-tier leaves room for 12: \
             the label sf-database-tier_0.7.2-1234567_verity of the partition must fit into 36"
        );
        assert!(ImageVersion::new("0.7.2-123456", "sf-database-tier").is_ok());
    }

    #[test]
    fn derived_versions_are_versions() {
        for (version, want) in [
            ("0.7.2", "0.7.2-9"),
            ("0.8.0rc4", "0.8.0-0rc4-9"),
            ("0.8.0.dev5", "0.8.0-0-dev5-9"),
            ("0.8.0.post1", "0.8.0.post1-9"),
            ("1.0", "1.0-9"),
        ] {
            let derived = derived(&version.parse().unwrap(), 9);
            assert_eq!(derived, want);
            assert!(ImageVersion::new(&derived, "sf-network").is_ok());
        }
    }

    /// systemd's `strverscmp_improved` (UAPI version format), as far as these
    /// versions go.
    fn systemd_order(a: &str, b: &str) -> Ordering {
        fn token(text: &str) -> (&str, &str) {
            let digits = text.starts_with(|c: char| c.is_ascii_digit());
            let end =
                text.find(|c: char| c.is_ascii_digit() != digits || !c.is_ascii_alphanumeric());
            text.split_at(end.unwrap_or(text.len()))
        }
        let (mut a, mut b) = (a, b);
        loop {
            if a.is_empty() || b.is_empty() {
                return a.len().min(1).cmp(&b.len().min(1));
            }
            for separator in ['-', '.'] {
                match (a.starts_with(separator), b.starts_with(separator)) {
                    (true, true) => {
                        (a, b) = (&a[1..], &b[1..]);
                        break;
                    }
                    (true, false) => return Ordering::Less,
                    (false, true) => return Ordering::Greater,
                    (false, false) => {}
                }
            }
            if a.is_empty()
                || b.is_empty()
                || a.starts_with(['-', '.'])
                || b.starts_with(['-', '.'])
            {
                continue;
            }
            let ((x, rest_a), (y, rest_b)) = (token(a), token(b));
            let order = match (x.parse::<u64>(), y.parse::<u64>()) {
                (Ok(x), Ok(y)) => x.cmp(&y),
                // Where one has digits, that one is newer.
                (Ok(_), Err(_)) => Ordering::Greater,
                (Err(_), Ok(_)) => Ordering::Less,
                (Err(_), Err(_)) => x.cmp(y),
            };
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        }
    }

    #[test]
    fn derived_versions_sort_as_the_releases_do() {
        let ordered = [
            ("0.7.2", 9),
            ("0.7.2", 10),
            ("0.8.0.dev1", 11),
            ("0.8.0a1", 12),
            ("0.8.0b1", 11),
            ("0.8.0rc4", 9),
            ("0.8.0", 1),
            ("0.8.0", 20),
            ("0.8.0.post1", 3),
            ("0.10.0", 1),
        ];
        let versions: Vec<String> = ordered
            .iter()
            .map(|(version, n)| derived(&version.parse().unwrap(), *n))
            .collect();
        for pair in versions.windows(2) {
            assert_eq!(
                systemd_order(&pair[0], &pair[1]),
                Ordering::Less,
                "{pair:?}"
            );
        }
    }
}
