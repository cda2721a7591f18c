//! Reads one `profiles/*.toml`.

use std::collections::{BTreeMap, BTreeSet};

use sf_contract::document::{Document, Field, Reader};
use sf_contract::problem::Problem;

use super::{Budget, Content, FileSpec, Output, Profile, Size};

/// Reads a profile. `name` is its file's name without `.toml`, `source` is how
/// problems name the file. What could be read is returned beside the problems,
/// so that the rest of the chain can be judged in the same run.
pub fn read(name: &str, source: &str, text: &str) -> (Profile, Vec<Problem>) {
    let document = Document::parse(source, text);
    let profile = read_root(name, source, document.root());
    let mut problems = document.into_problems();
    // What is missing because the text could not be parsed is no mistake of its own.
    let broken = |problem: &Problem| problem.message.starts_with("not valid TOML");
    if problems.iter().any(broken) {
        problems.retain(broken);
    }
    (profile, problems)
}

fn read_root(name: &str, source: &str, root: Reader<'_, '_>) -> Profile {
    match root.integer("schema") {
        None if !root.has("schema") => root.missing("schema", "1, the version of this format"),
        Some(schema) if schema.value != 1 => root.problem(
            "schema",
            Some(schema.span),
            format!("schema {} is not known", schema.value),
            Some("this program reads schema 1".into()),
        ),
        _ => {}
    }
    let profile = Profile {
        name: name.to_owned(),
        source: source.to_owned(),
        summary: root
            .required_string("summary")
            .map(|field| field.value)
            .unwrap_or_default(),
        extends: root.string("extends"),
        role: root.parsed("role", str::parse),
        packages: words(&root, "packages", "a Debian package's name", is_package),
        kernel_modules: words(&root, "kernel_modules", "a kernel module's name", is_module),
        kernel_command_line: words(
            &root,
            "kernel_command_line",
            "one kernel parameter (no blanks, and not one that mkosi writes: root=, usrhash=)",
            is_parameter,
        ),
        sysctl: read_sysctl(&root),
        daemons: words(&root, "daemons", "a daemon's name", is_module),
        files: root
            .tables("file")
            .into_iter()
            .filter_map(read_file)
            .collect(),
        remove_files: words(
            &root,
            "remove_files",
            "an absolute path below /etc, /usr or /var",
            |path| {
                let placed = ["/etc/", "/usr/", "/var/"]
                    .iter()
                    .any(|folder| path.starts_with(folder));
                placed && is_clean_path(path) && !path.contains('%')
            },
        ),
        set_uid: words(&root, "set_uid", "an absolute path below /usr", |path| {
            path.starts_with("/usr/") && is_clean_path(path)
        }),
        size_budgets: read_budgets(&root),
        outputs: read_outputs(&root),
    };
    root.finish();
    profile
}

/// A list of strings that `valid` accepts, without repetitions.
fn words(
    root: &Reader<'_, '_>,
    key: &str,
    wanted: &str,
    valid: impl Fn(&str) -> bool,
) -> Vec<Field<String>> {
    let mut kept: Vec<Field<String>> = Vec::new();
    for word in root.strings(key).unwrap_or_default() {
        if !valid(&word.value) {
            let message = format!("\"{}\" is not {wanted}", word.value);
            root.problem(key, Some(word.span), message, None);
        } else if kept.iter().any(|other| other.value == word.value) {
            let message = format!("\"{}\" is in the list twice", word.value);
            root.problem(key, Some(word.span), message, None);
        } else {
            kept.push(word);
        }
    }
    kept
}

fn read_sysctl(root: &Reader<'_, '_>) -> Vec<(Field<String>, Field<String>)> {
    let mut kept = Vec::new();
    for (name, value) in root.scalars("sysctl") {
        let plain = |text: &str, extra: &[char]| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
        };
        if !plain(&name.value, &['.', '_', '-', '/']) {
            let message = format!("\"{}\" is not a kernel parameter's name", name.value);
            root.problem("sysctl", Some(name.span), message, None);
        } else if !plain(&value.value, &['.', '_', '-', ' ', '/', ',']) {
            let message = format!("\"{}\" is not a kernel parameter's value", value.value);
            root.problem("sysctl", Some(value.span), message, None);
        } else {
            kept.push((name, value));
        }
    }
    kept
}

fn read_file(file: Reader<'_, '_>) -> Option<FileSpec> {
    let path = file.required_string("path").and_then(|path| {
        let placed = path.value.starts_with("/etc/") || path.value.starts_with("/usr/");
        if placed && is_clean_path(&path.value) {
            return Some(path);
        }
        file.problem(
            "path",
            Some(path.span),
            format!("\"{}\" is not a path that an image can carry", path.value),
            Some("write an absolute path below /etc or /usr; /var and /srv are the node's: make files there with a tmpfiles.d rule".into()),
        );
        None
    });
    let mode = file.parsed("mode", |text| {
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && text.len() >= 3).ok_or_else(|| {
            format!("\"{text}\" is not a mode; write three or four octal digits, such as \"0644\"; set-id bits are not for files of a profile")
        })
    });
    let inline = file.string("content");
    let source = file.string("source");
    let content = match (inline, source) {
        (Some(text), None) => Some(Content::Inline(text.value)),
        (None, Some(source)) if is_clean_path(&format!("/{}", source.value)) => {
            Some(Content::Source(source))
        }
        (None, Some(source)) => {
            let message = format!("\"{}\" is not a path relative to profiles/", source.value);
            file.problem("source", Some(source.span), message, None);
            None
        }
        (None, None) if file.has("content") || file.has("source") => None,
        _ => {
            let message = "a file has either content or source";
            file.problem("", Some(file.span()), message, None);
            None
        }
    };
    file.finish();
    Some(FileSpec {
        path: path?,
        mode: mode.map_or(0o644, |mode| mode.value),
        content: content?,
    })
}

fn read_budgets(root: &Reader<'_, '_>) -> BTreeMap<Budget, Size> {
    let Some(table) = root.table("size_budgets") else {
        return BTreeMap::new();
    };
    let budgets = Budget::ALL
        .into_iter()
        .filter_map(|budget| Some((budget, table.parsed(budget.name(), str::parse)?.value)))
        .collect();
    table.finish();
    budgets
}

fn read_outputs(root: &Reader<'_, '_>) -> Option<BTreeSet<Output>> {
    let mut outputs = BTreeSet::new();
    for name in root.strings("outputs")? {
        match name.value.parse() {
            Ok(output) => drop(outputs.insert(output)),
            Err(error) => root.problem("outputs", Some(name.span), error, None),
        }
    }
    Some(outputs)
}

/// Debian Policy 5.6.7.
fn is_package(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn is_module(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// mkosi splits at blanks and expands `%`; a root or hash of one's own would
/// start something else than what was verified.
fn is_parameter(word: &str) -> bool {
    !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_graphic() && !"%\"'#".contains(c))
        && !["root=", "usrhash=", "roothash=", "usr="]
            .iter()
            .any(|own| word.starts_with(own))
}

/// An absolute path without `.`, `..`, empty parts or odd characters.
fn is_clean_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| {
            !["", ".", ".."].contains(&part)
                && part
                    .chars()
                    .all(|c| c.is_ascii_graphic() && !"\"'\\,:".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let (_, problems) = read("x", "profiles/x.toml", text);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = r#"
schema = 2
sumary = "x"
role = "hypervizor"
packages = ["Qemu", "ok", "ok", 5]
kernel_command_line = ["quiet", "root=/dev/sda1", "a b"]
outputs = ["raw", "iso"]
[sysctl]
"net.ipv4.ip_forward" = 1.5
"a b" = 1
[size_budgets]
usr = "200"
user = "1 GiB"
[[file]]
path = "/var/x"
content = ""
[[file]]
path = "/etc/../x"
source = "../x"
[[file]]
path = "/etc/x"
mode = "4755"
"#;
        insta::assert_snapshot!(shown(text).join("\n"), @r#"
        profiles/x.toml: schema 2 is not known (this program reads schema 1)
        profiles/x.toml: unknown key "sumary" (did you mean "summary"?)
        profiles/x.toml: "hypervizor" is not a role; roles are hypervisor, network, database-tier and single-node
        profiles/x.toml: packages: "Qemu" is not a Debian package's name
        profiles/x.toml: packages: "ok" is in the list twice
        profiles/x.toml: packages: expected a string, found integer
        profiles/x.toml: kernel_command_line: "root=/dev/sda1" is not one kernel parameter (no blanks, and not one that mkosi writes: root=, usrhash=)
        profiles/x.toml: kernel_command_line: "a b" is not one kernel parameter (no blanks, and not one that mkosi writes: root=, usrhash=)
        profiles/x.toml: "iso" is not an output; outputs are raw, uki and partitions
        profiles/x.toml: sysctl.net.ipv4.ip_forward: expected a string, a whole number or true or false, found float
        profiles/x.toml: sysctl: "a b" is not a kernel parameter's name
        profiles/x.toml: size_budgets.usr: "200" is not a size; write a whole number of KiB, MiB or GiB, such as "160 MiB"
        profiles/x.toml: size_budgets.user: unknown key "user" (did you mean "usr"?)
        profiles/x.toml: file[0].path: "/var/x" is not a path that an image can carry (write an absolute path below /etc or /usr; /var and /srv are the node's: make files there with a tmpfiles.d rule)
        profiles/x.toml: file[1].path: "/etc/../x" is not a path that an image can carry (write an absolute path below /etc or /usr; /var and /srv are the node's: make files there with a tmpfiles.d rule)
        profiles/x.toml: file[1].source: "../x" is not a path relative to profiles/
        profiles/x.toml: file[2]: a file has either content or source
        profiles/x.toml: file[2].mode: "4755" is not a mode; write three or four octal digits, such as "0644"; set-id bits are not for files of a profile
        profiles/x.toml: missing key "summary" (summary takes a string)
        "#);
    }

    #[test]
    fn a_whole_profile_reads_without_a_problem() {
        let text = r#"
schema = 1
summary = "Test"
extends = "base"
role = "network"
packages = ["dnsmasq-base", "libmagic1t64", "g++"]
kernel_modules = ["vhost_vsock"]
kernel_command_line = ["intel_iommu=on"]
daemons = ["api", "sentinel-first"]
set_uid = ["/usr/bin/su"]
outputs = ["raw"]
[sysctl]
"net.ipv4.ip_forward" = 1
[size_budgets]
usr = "200 MiB"
[[file]]
path = "/etc/x.conf"
content = "y"
[[file]]
path = "/usr/lib/z"
mode = "0755"
source = "files/z"
"#;
        let (profile, problems) = read("x", "profiles/x.toml", text);
        assert_eq!(problems, []);
        assert_eq!(profile.packages.len(), 3);
        assert_eq!(profile.sysctl[0].1.value, "1");
        assert_eq!(profile.size_budgets[&Budget::Usr], Size(200 << 20));
        assert_eq!(
            (profile.files[0].mode, profile.files[1].mode),
            (0o644, 0o755)
        );
        assert_eq!(profile.outputs, Some(BTreeSet::from([Output::Raw])));
    }
}
