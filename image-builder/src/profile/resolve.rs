//! Follows `extends` and puts a chain of profiles together.

use std::collections::{BTreeMap, BTreeSet};

use sf_contract::document::{Field, did_you_mean};
use sf_contract::problem::Problem;

use super::{Content, FileSpec, Output, Profile, ResolvedFile, ResolvedProfile};

/// Puts the chain of `name` together. `profiles` is every profile by name,
/// `sources` every other file under `profiles/` by its path there. `Ok(None)`
/// is a profile without a role, which is there to be extended.
///
/// Rules: lists add up along the chain, and naming something twice is a
/// mistake; a child's kernel parameter, budget and outputs replace its
/// parent's; a role is inherited and not changed; a file belongs to one
/// profile of the chain.
pub fn resolve(
    profiles: &BTreeMap<String, Profile>,
    name: &str,
    sources: &BTreeMap<String, Vec<u8>>,
) -> Result<Option<ResolvedProfile>, Vec<Problem>> {
    let chain = chain(profiles, name)?;
    let mut problems = Vec::new();
    let role = role(&chain, &mut problems);
    let packages = unique(
        &chain,
        "packages",
        |profile| &profile.packages,
        &mut problems,
    );
    let modules = unique(
        &chain,
        "kernel_modules",
        |profile| &profile.kernel_modules,
        &mut problems,
    );
    let line = unique(
        &chain,
        "kernel_command_line",
        |profile| &profile.kernel_command_line,
        &mut problems,
    );
    let daemons = unique(&chain, "daemons", |profile| &profile.daemons, &mut problems);
    let remove_files = unique(
        &chain,
        "remove_files",
        |profile| &profile.remove_files,
        &mut problems,
    );
    let set_uid = unique(&chain, "set_uid", |profile| &profile.set_uid, &mut problems);
    let files = files(&chain, sources, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let Some(role) = role else { return Ok(None) };
    let last = |profile: &&Profile| profile.name.clone();
    Ok(Some(ResolvedProfile {
        name: name.to_owned(),
        summary: chain
            .last()
            .map(|profile| profile.summary.clone())
            .unwrap_or_default(),
        chain: chain.iter().map(last).collect(),
        role,
        packages: packages.into_iter().collect(),
        kernel_modules: modules.into_iter().collect(),
        kernel_command_line: line,
        sysctl: chain
            .iter()
            .flat_map(|profile| &profile.sysctl)
            .map(|(key, value)| (key.value.replace('/', "."), value.value.clone()))
            .collect(),
        daemons,
        files,
        remove_files: remove_files.into_iter().collect(),
        set_uid: set_uid.into_iter().collect(),
        size_budgets: chain
            .iter()
            .flat_map(|profile| &profile.size_budgets)
            .map(|(budget, size)| (*budget, size.0))
            .collect(),
        outputs: chain
            .iter()
            .rev()
            .find_map(|profile| profile.outputs.clone())
            .unwrap_or_else(|| BTreeSet::from(Output::ALL)),
    }))
}

/// The profiles from the root of the chain to `name`.
fn chain<'p>(
    profiles: &'p BTreeMap<String, Profile>,
    name: &str,
) -> Result<Vec<&'p Profile>, Vec<Problem>> {
    let mut chain: Vec<&Profile> = Vec::new();
    let mut next = profiles.get(name);
    while let Some(profile) = next {
        chain.push(profile);
        let Some(parent) = &profile.extends else {
            break;
        };
        if let Some(start) = chain.iter().position(|member| member.name == parent.value) {
            return Err(vec![cycle(&chain[start..])]);
        }
        next = profiles.get(&parent.value);
        if next.is_none() {
            let near = did_you_mean(&parent.value, profiles.keys().map(String::as_str));
            let hint = near.map_or_else(
                || {
                    format!(
                        "profiles are {}",
                        profiles.keys().cloned().collect::<Vec<_>>().join(", ")
                    )
                },
                |near| format!("did you mean \"{near}\"?"),
            );
            let message = format!("there is no profile \"{}\"", parent.value);
            return Err(vec![problem(
                profile,
                "extends",
                parent,
                message,
                Some(hint),
            )]);
        }
    }
    chain.reverse();
    Ok(chain)
}

/// One cycle is one problem, wherever one comes upon it: it is shown at the
/// member whose name comes first.
fn cycle(members: &[&Profile]) -> Problem {
    let start = (0..members.len())
        .min_by_key(|i| &members[*i].name)
        .unwrap_or_default();
    let around: Vec<&Profile> = members[start..]
        .iter()
        .chain(&members[..start])
        .copied()
        .collect();
    let mut names: Vec<&str> = around.iter().map(|profile| profile.name.as_str()).collect();
    names.push(&around[0].name);
    let message = format!(
        "profiles extend each other in a circle: {}",
        names.join(" -> ")
    );
    Problem {
        source: around[0].source.clone(),
        field: "extends".into(),
        span: around[0]
            .extends
            .as_ref()
            .map(|extends| extends.span.clone()),
        message,
        hint: Some("one of them must not extend the next".into()),
    }
}

fn problem<T>(
    profile: &Profile,
    field: &str,
    place: &Field<T>,
    message: String,
    hint: Option<String>,
) -> Problem {
    Problem {
        source: profile.source.clone(),
        field: field.to_owned(),
        span: Some(place.span.clone()),
        message,
        hint,
    }
}

fn role(chain: &[&Profile], problems: &mut Vec<Problem>) -> Option<sf_contract::role::Role> {
    let mut found: Option<(&Profile, _)> = None;
    for profile in chain {
        let Some(role) = &profile.role else { continue };
        match found {
            Some((parent, inherited)) if inherited != role.value => {
                let message = format!(
                    "the role is {inherited} in {}, which this profile extends",
                    parent.source
                );
                let hint = "leave the role out, or extend a profile without one".to_owned();
                problems.push(problem(profile, "role", role, message, Some(hint)));
            }
            _ => found = Some((profile, role.value)),
        }
    }
    found.map(|(_, role)| role)
}

/// A list along the chain; what two profiles name is a problem.
fn unique(
    chain: &[&Profile],
    field: &str,
    list: impl Fn(&Profile) -> &Vec<Field<String>>,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut all: Vec<(String, &str)> = Vec::new();
    for profile in chain {
        for word in list(profile) {
            match all.iter().find(|(other, _)| *other == word.value) {
                Some((_, parent)) => {
                    let message = format!("\"{}\" comes from {parent} already", word.value);
                    let hint = Some("remove it here".to_owned());
                    problems.push(problem(profile, field, word, message, hint));
                }
                None => all.push((word.value.clone(), &profile.source)),
            }
        }
    }
    all.into_iter().map(|(word, _)| word).collect()
}

fn files(
    chain: &[&Profile],
    sources: &BTreeMap<String, Vec<u8>>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, ResolvedFile> {
    let mut files = BTreeMap::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for profile in chain {
        for FileSpec {
            path,
            mode,
            content,
        } in &profile.files
        {
            let content = match content {
                Content::Inline(text) => Some(text.clone().into_bytes()),
                Content::Source(source) => sources.get(&source.value).cloned().or_else(|| {
                    let message = format!("there is no file profiles/{}", source.value);
                    let near = did_you_mean(&source.value, sources.keys().map(String::as_str))
                        .map(|near| format!("did you mean \"{near}\"?"));
                    problems.push(problem(profile, "file.source", source, message, near));
                    None
                }),
            };
            if let Some(owner) = owners.insert(&path.value, &profile.source) {
                let message = format!("{} is a file of {owner} already", path.value);
                let hint = Some(
                    "a file belongs to one profile; name another path, such as a drop-in"
                        .to_owned(),
                );
                problems.push(problem(profile, "file.path", path, message, hint));
            } else if let Some(content) = content {
                files.insert(
                    path.value.clone(),
                    ResolvedFile {
                        mode: *mode,
                        content,
                    },
                );
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::read;
    use proptest::prelude::*;

    fn profiles(texts: &[(&str, &str)]) -> BTreeMap<String, Profile> {
        texts
            .iter()
            .map(|(name, text)| {
                let text = format!("schema = 1\nsummary = \"{name}\"\n{text}");
                let (profile, problems) = read(name, &format!("profiles/{name}.toml"), &text);
                assert_eq!(problems, []);
                ((*name).to_owned(), profile)
            })
            .collect()
    }

    fn problems(texts: &[(&str, &str)], name: &str) -> String {
        let found = resolve(&profiles(texts), name, &BTreeMap::new()).expect_err("problems");
        found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn lists_add_up_and_values_are_replaced() {
        let all = profiles(&[
            (
                "base",
                "packages = [\"b\\u0062\", \"aa\"]\n[sysctl]\n\"x.y\" = 0\nz = 1\n[size_budgets]\nusr = \"1 MiB\"\n",
            ),
            (
                "child",
                "extends = \"base\"\nrole = \"network\"\npackages = [\"cc\"]\n[sysctl]\n\"x/y\" = 1\n[size_budgets]\nusr = \"2 MiB\"\n",
            ),
        ]);
        let child = resolve(&all, "child", &BTreeMap::new()).unwrap().unwrap();
        assert_eq!(
            child.packages.iter().collect::<Vec<_>>(),
            ["aa", "bb", "cc"]
        );
        assert_eq!(child.sysctl["x.y"], "1");
        assert_eq!(child.sysctl["z"], "1");
        assert_eq!(child.size_budgets[&crate::profile::Budget::Usr], 2 << 20);
        assert_eq!(child.chain, ["base", "child"]);
        assert_eq!(resolve(&all, "base", &BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn a_cycle_is_the_same_problem_from_everywhere() {
        let texts = [
            ("a", "extends = \"c\"\n"),
            ("b", "extends = \"a\"\n"),
            ("c", "extends = \"b\"\n"),
            ("outside", "extends = \"b\"\n"),
        ];
        let first = problems(&texts, "a");
        assert_eq!(
            first,
            "profiles/a.toml: extends: profiles extend each other in a circle: a -> c -> b -> a \
             (one of them must not extend the next)"
        );
        for name in ["b", "c", "outside"] {
            assert_eq!(problems(&texts, name), first);
        }
        let own = problems(&[("a", "extends = \"a\"\n")], "a");
        assert!(own.contains("circle: a -> a"), "{own}");
    }

    #[test]
    fn contradictions_along_the_chain_are_problems() {
        let base = "role = \"network\"\npackages = [\"aa\"]\n[[file]]\npath = \"/etc/x\"\ncontent = \"1\"\n";
        let child = "extends = \"base\"\nrole = \"hypervisor\"\npackages = [\"aa\"]\n\
            [[file]]\npath = \"/etc/x\"\ncontent = \"2\"\n[[file]]\npath = \"/etc/y\"\nsource = \"nope\"\n";
        insta::assert_snapshot!(problems(&[("base", base), ("child", child)], "child"), @r#"
        profiles/child.toml: the role is network in profiles/base.toml, which this profile extends (leave the role out, or extend a profile without one)
        profiles/child.toml: packages: "aa" comes from profiles/base.toml already (remove it here)
        profiles/child.toml: file.path: /etc/x is a file of profiles/base.toml already (a file belongs to one profile; name another path, such as a drop-in)
        profiles/child.toml: file.source: there is no file profiles/nope
        "#);
        let missing = problems(&[("base", ""), ("child", "extends = \"bsae\"\n")], "child");
        assert!(
            missing.contains("there is no profile \"bsae\" (did you mean \"base\"?)"),
            "{missing}"
        );
    }

    proptest! {
        /// What a chain comes to does not depend on which of its profiles names
        /// a package.
        #[test]
        fn packages_may_stand_anywhere_in_the_chain(split in proptest::collection::vec(0usize..3, 1..8)) {
            let list = |level: usize| -> String {
                let names: Vec<String> = split.iter().enumerate().filter(|(_, at)| **at == level)
                    .map(|(i, _)| format!("\"pkg{i}\"")).collect();
                format!("packages = [{}]\n", names.join(", "))
            };
            let texts = [
                ("a", list(0)),
                ("b", format!("extends = \"a\"\n{}", list(1))),
                ("c", format!("extends = \"b\"\nrole = \"network\"\n{}", list(2))),
            ];
            let texts: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (*n, t.as_str())).collect();
            let resolved = resolve(&profiles(&texts), "c", &BTreeMap::new()).unwrap().unwrap();
            let want: BTreeSet<String> = (0..split.len()).map(|i| format!("pkg{i}")).collect();
            prop_assert_eq!(resolved.packages, want);
        }
    }
}
