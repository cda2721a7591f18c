//! Sizes as people write them: `160 MiB`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        UNITS
            .iter()
            .find_map(|(unit, factor)| {
                let number = text.strip_suffix(unit)?.trim_end();
                let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                let number: u64 = plain.then(|| number.parse().ok()).flatten()?;
                number.checked_mul(*factor).filter(|bytes| *bytes > 0).map(Self)
            })
            .ok_or_else(|| {
                format!("\"{text}\" is not a size; write a whole number of KiB, MiB or GiB, such as \"160 MiB\"")
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .into_iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor)
            .unwrap_or(("bytes", 1));
        if self.0.is_multiple_of(factor) {
            return write!(f, "{} {unit}", self.0 / factor);
        }
        // One digit is enough to compare with a budget, and tenths need no floats.
        let tenths = u128::from(self.0) * 10 / u128::from(factor);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_shows_sizes() {
        for (text, bytes, shown) in [
            ("160 MiB", 160 << 20, "160 MiB"),
            ("2GiB", 2 << 30, "2 GiB"),
            ("1536 MiB", 1536 << 20, "1.5 GiB"),
            ("1 KiB", 1024, "1 KiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        assert_eq!(Size(12).to_string(), "12 bytes");
        for text in [
            "",
            "160",
            "MiB",
            "-1 MiB",
            "1.5 MiB",
            "0 MiB",
            "160 MB",
            "99999999999999999999 GiB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_sizes_round_trip(number in 1u64..1023) {
            for unit in ["KiB", "MiB", "GiB"] {
                let text = format!("{number} {unit}");
                prop_assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
            }
        }
    }
}
