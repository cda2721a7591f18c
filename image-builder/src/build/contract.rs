//! Does mkosi understand the rendered folder as it was meant?
//!
//! Newer mkosi only warns about settings that it does not know, and a later file
//! may replace what an earlier one said. So mkosi is asked what it read
//! (`mkosi --json summary`), and that is compared with what was rendered.

use serde_json::Value;

use crate::settings::{Conf, Setting};

/// What mkosi's summary says otherwise than `conf`; empty when nothing.
/// `stem` is what `Output=` comes to.
pub(super) fn differences(summary: &str, conf: &Conf, stem: &str) -> Vec<String> {
    let summary: Value = match serde_json::from_str(summary) {
        Ok(summary) => summary,
        Err(error) => return vec![format!("the summary is not JSON: {error}")],
    };
    // Other images of the folder (the initrd) come first.
    let images = summary["Images"].as_array();
    let Some(image) = images.and_then(|images| images.last()) else {
        return vec!["the summary names no image".to_owned()];
    };
    conf.values()
        .flat_map(|(setting, values)| {
            let found = &image[setting.name()];
            let missing: Vec<&String> = values
                .iter()
                .filter(|value| !has(setting, found, value, stem))
                .collect();
            missing
                .into_iter()
                .map(|value| format!("{} has no \"{value}\": it is {found}", setting.name()))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn has(setting: Setting, found: &Value, value: &str, stem: &str) -> bool {
    match (setting, found) {
        (Setting::Output, Value::String(found)) => found == stem,
        (Setting::ExtraTrees, Value::Array(trees)) => trees.iter().any(|tree| is_tree(tree, value)),
        (_, Value::Array(list)) => list.iter().any(|item| item == value),
        (_, Value::String(found)) => found == value,
        (_, Value::Number(found)) => found.to_string() == value,
        _ => false,
    }
}

/// Links are followed in the summary, so a tree with a target is known by that.
fn is_tree(tree: &Value, value: &str) -> bool {
    match value.split_once(':') {
        Some((_, target)) => tree["Target"] == target,
        None => tree["Source"]
            .as_str()
            .is_some_and(|source| source.ends_with(&format!("/{value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{"Images":[{"Image":"initrd"},{"ImageId":"sf-x","Output":"sf-x_1","SourceDateEpoch":17,
        "Packages":["aa","bb","systemd"],"ExtraTrees":[{"Source":"/r/mkosi.extra","Target":null},
        {"Source":"/r/profile.extra","Target":null},{"Source":"/cache/venv/k/root","Target":"/usr/lib/x"}]}]}"#;

    fn conf(packages: &[&str], epoch: &str) -> Conf {
        Conf::default()
            .set(Setting::ImageId, "sf-x")
            .set(Setting::Output, "%i_%v")
            .list(
                Setting::Packages,
                packages.iter().map(|name| (*name).to_owned()),
            )
            .list(
                Setting::ExtraTrees,
                ["profile.extra".to_owned(), "venv:/usr/lib/x".to_owned()],
            )
            .set(Setting::SourceDateEpoch, epoch)
    }

    #[test]
    fn what_was_rendered_is_what_was_read() {
        assert_eq!(
            differences(SUMMARY, &conf(&["aa", "bb"], "17"), "sf-x_1"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_got_lost_is_named() {
        let lost = conf(&["aa", "cc"], "18").set(Setting::Seed, "s");
        assert_eq!(
            differences(SUMMARY, &lost, "sf-x_2"),
            [
                "Output has no \"%i_%v\": it is \"sf-x_1\"",
                "Packages has no \"cc\": it is [\"aa\",\"bb\",\"systemd\"]",
                "SourceDateEpoch has no \"18\": it is 17",
                "Seed has no \"s\": it is null",
            ]
        );
        assert_eq!(
            differences("{}", &lost, "x"),
            ["the summary names no image"]
        );
        assert_eq!(differences("x", &lost, "x").len(), 1);
    }
}
