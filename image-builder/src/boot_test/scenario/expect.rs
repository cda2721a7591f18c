//! What an answer must be like: pure comparisons, each giving the reason when
//! the answer is not.

use serde_json::Value;

use crate::boot_test::template::Template;

/// What must come of a script.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Exit code; `None` for any.
    pub exit: Option<i64>,
    /// Texts that the output must have.
    pub contains: Vec<Template>,
    /// Texts that it must not have.
    pub lacks: Vec<Template>,
    /// The whole output, without white space around it.
    pub equals: Option<Template>,
}

/// Whether `actual` contains `wanted`: an object its keys, a list each wanted
/// item somewhere, anything else the same value. Otherwise the place and reason.
pub fn json_contains(wanted: &Value, actual: &Value) -> Result<(), String> {
    contains_at("", wanted, actual)
}

fn contains_at(place: &str, wanted: &Value, actual: &Value) -> Result<(), String> {
    let shown = if place.is_empty() {
        "the answer"
    } else {
        place
    };
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            for (key, value) in wanted {
                let place = format!("{place}/{key}");
                match actual.get(key) {
                    Some(found) => contains_at(&place, value, found)?,
                    None => return Err(format!("{place} is not there")),
                }
            }
            Ok(())
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            for item in wanted {
                if !actual
                    .iter()
                    .any(|found| contains_at(place, item, found).is_ok())
                {
                    return Err(format!("{shown} has no item {item}"));
                }
            }
            Ok(())
        }
        _ if wanted == actual => Ok(()),
        _ => Err(format!("{shown} is {actual} instead of {wanted}")),
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text.
pub fn row_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_of_an_answer_are_enough() {
        let actual =
            json!([{"name": "a", "release": "0.7.2", "x": 1}, {"name": "b", "release": "0.7.1"}]);
        assert_eq!(
            json_contains(&json!([{"name": "a", "release": "0.7.2"}]), &actual),
            Ok(())
        );
        assert_eq!(
            json_contains(&json!([{"name": "b", "release": "0.7.2"}]), &actual),
            Err(r#"the answer has no item {"name":"b","release":"0.7.2"}"#.to_owned())
        );
        assert_eq!(
            json_contains(&json!({"a": {"b": 1}}), &json!({"a": {"b": 2}})),
            Err("/a/b is 2 instead of 1".to_owned())
        );
        assert_eq!(
            json_contains(&json!({"a": 1}), &json!({})),
            Err("/a is not there".to_owned())
        );
        assert!(json_contains(&json!({}), &json!([])).is_err());
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, want) in [
            ("a | b", "a | b", true),
            ("a | b", "a | bc", false),
            ("key/system/* | created", "key/system/first | created", true),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("*x", "yx", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(row_matches(pattern, text), want, "{pattern} against {text}");
        }
    }
}
