//! Reads `release.toml`, with every problem as a place in the text.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{
    Base, Daemon, Hooks, Install, Override, Probe, Python, Release, Schema, Setting, SettingValue,
    Shim,
};
use crate::document::{Document, Field, Reader, did_you_mean};
use crate::metadata::fields;
use crate::problem::Problem;
use crate::role::Role;
use crate::series::{Series, Version};

mod names;
use names::{KEY_HINT, Seen, is_key, is_unit, read_cluster_config, short};

/// Reads a descriptor. `name` is its folder's name, `source` is how problems
/// name the file.
pub fn read(name: &str, source: &str, text: &str) -> Result<Release, Vec<Problem>> {
    let document = Document::parse(source, text);
    let release = read_root(name, document.root());
    let problems = document.into_problems();
    match release {
        Some(release) if problems.is_empty() => Ok(release),
        _ => Err(problems),
    }
}

fn read_root(name: &str, root: Reader<'_, '_>) -> Option<Release> {
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
    let summary = root.required_string("summary");
    let version = root.parsed("version", Version::from_str);
    let series = required_parsed(&root, "series", Series::from_str);
    let predecessor = root.parsed("predecessor", Series::from_str);
    if let (Some(version), Some(series)) = (&version, &series)
        && version.value.series() != series.value
    {
        root.problem(
            "series",
            Some(series.span.clone()),
            format!(
                "version {} belongs to series {}",
                version.value,
                version.value.series()
            ),
            None,
        );
    }
    if let (Some(series), Some(predecessor)) = (&series, &predecessor)
        && predecessor.value >= series.value
    {
        root.problem(
            "predecessor",
            Some(predecessor.span.clone()),
            format!(
                "{} does not come before {}",
                predecessor.value, series.value
            ),
            None,
        );
    }
    let base = required_table(&root, "base").and_then(read_base);
    let packages = plain(root.strings("packages").unwrap_or_default());
    let python = required_table(&root, "python").and_then(read_python);
    if let (Some(python), None) = (&python, &version)
        && python.install != Install::Wheel
        && !root.has("version")
    {
        root.missing("version", "a PEP 440 version, such as \"0.7.2\"");
    }
    let mut seen = Seen::default();
    let daemons: Vec<Daemon> = root
        .tables("daemon")
        .into_iter()
        .filter_map(|table| read_daemon(table, &mut seen))
        .collect();
    if daemons.is_empty() && !root.has("daemon") {
        root.missing("daemon", "at least one [[daemon]] table");
    }
    let settings = root
        .tables("setting")
        .into_iter()
        .filter_map(|table| read_setting(table, &mut seen))
        .collect();
    let schema = required_table(&root, "schema_of_the_cluster").and_then(read_schema);
    let hooks = root.table("hooks").map(read_hooks).unwrap_or_default();
    let absent = root.scalars("absent_daemons");
    for (name, _) in &absent {
        seen.once(&root, "absent_daemons", "daemon", name);
    }
    let absent_daemons = pairs(absent);
    let cluster_config = read_cluster_config(&root, &seen);
    let forbidden_in_config = root.string("forbidden_in_config");
    root.finish();
    Some(Release {
        name: name.to_owned(),
        summary: summary?.value,
        version: version.map(|field| field.value),
        series: series?.value,
        predecessor: predecessor.map(|field| field.value),
        base: base?,
        packages,
        python: python?,
        daemons,
        absent_daemons,
        settings,
        cluster_config,
        forbidden_in_config: forbidden_in_config.map_or_else(String::new, |field| field.value),
        schema: schema?,
        hooks,
    })
}

fn read_base(base: Reader<'_, '_>) -> Option<Base> {
    let distribution = base.required_string("distribution");
    let release = base.required_string("release");
    let glibc = base.required_string("glibc");
    let python = base.required_string("python");
    base.finish();
    Some(Base {
        distribution: distribution?.value,
        release: release?.value,
        glibc: glibc?.value,
        python: python?.value,
    })
}

fn read_python(python: Reader<'_, '_>) -> Option<Python> {
    let prefix = python.required_string("prefix");
    let kind = python.required_string("install");
    let lock = python.string("lock");
    let install = kind.and_then(|kind| match (kind.value.as_str(), lock) {
        ("hash-lock", Some(lock)) => Some(Install::HashLock { lock: lock.value }),
        ("hash-lock", None) => {
            python.missing("lock", "the file with hashed requirements");
            None
        }
        ("wheel", _) => Some(Install::Wheel),
        (other, _) => {
            python.problem(
                "install",
                Some(kind.span.clone()),
                format!("\"{other}\" is not a way to install"),
                Some("write \"hash-lock\" or \"wheel\"".into()),
            );
            None
        }
    });
    let from_distribution = pairs(python.scalars("from_distribution"));
    let build_packages = plain(python.strings("build_packages").unwrap_or_default());
    let overrides = python
        .tables("override")
        .into_iter()
        .filter_map(|table| {
            let requirement = table.required_string("requirement");
            let reason = table.required_string("reason");
            table.finish();
            Some(Override {
                requirement: requirement?.value,
                reason: reason?.value,
            })
        })
        .collect();
    let shims = python
        .tables("shim")
        .into_iter()
        .filter_map(|table| {
            let path = table.required_string("path");
            let reason = table.required_string("reason");
            table.finish();
            Some(Shim {
                path: path?.value,
                reason: reason?.value,
            })
        })
        .collect();
    python.finish();
    Some(Python {
        install: install?,
        prefix: prefix?.value,
        from_distribution,
        build_packages,
        overrides,
        shims,
    })
}

fn read_daemon(daemon: Reader<'_, '_>, seen: &mut Seen) -> Option<Daemon> {
    let unit = daemon.required_string("unit");
    if let Some(unit) = &unit {
        seen.once(&daemon, "unit", "unit", unit);
        if !is_unit(&unit.value) {
            let message = format!("\"{}\" is not a unit's name", unit.value);
            let hint = "letters, digits, '-' and '_', without .service".to_owned();
            daemon.problem("unit", Some(unit.span.clone()), message, Some(hint));
        }
    }
    let description = daemon.required_string("description");
    let exec = daemon.required_string("exec");
    let service_type = daemon
        .string("type")
        .map_or_else(|| "simple".into(), |field| field.value);
    let provides = daemon.strings("provides").unwrap_or_default();
    for name in &provides {
        seen.once(&daemon, "provides", "daemon", name);
    }
    let provides = plain(provides);
    let always = daemon.boolean("always").is_some_and(|field| field.value);
    let roles = roles(&daemon, "roles");
    let after = plain(daemon.strings("after").unwrap_or_default());
    let requires = plain(daemon.strings("requires").unwrap_or_default());
    let ports = daemon
        .tables("port")
        .into_iter()
        .filter_map(|table| {
            let number = table.integer("number");
            table.string("purpose");
            let number = number.and_then(|number| short(&table, "number", &number));
            table.finish();
            number
        })
        .collect();
    let readiness = daemon.table("readiness").and_then(read_probe);
    let service = daemon
        .table("service")
        .map(read_directives)
        .unwrap_or_default();
    daemon.finish();
    Some(Daemon {
        unit: unit?.value,
        description: description?.value,
        exec: exec?.value,
        service_type,
        provides,
        always,
        roles,
        after,
        requires,
        ports,
        readiness,
        service,
    })
}

fn read_directives(service: Reader<'_, '_>) -> Vec<(String, String)> {
    let mut directives = Vec::new();
    for key in service.keys() {
        if service.is_list(&key.value) {
            for value in service.strings(&key.value).unwrap_or_default() {
                directives.push((key.value.clone(), value.value));
            }
        } else if let Some(value) = service.scalar(&key.value) {
            directives.push((key.value.clone(), value.value));
        }
    }
    service.finish();
    directives
}

fn read_probe(probe: Reader<'_, '_>) -> Option<Probe> {
    let port = probe.integer("port");
    let path = probe.required_string("path");
    let status = probe.integer("status");
    let within = probe.integer("within_seconds");
    for (key, field) in [("port", &port), ("status", &status)] {
        if field.is_none() && !probe.has(key) {
            probe.missing(key, "a whole number");
        }
    }
    let port = port.and_then(|port| short(&probe, "port", &port));
    let status = status.and_then(|status| short(&probe, "status", &status));
    probe.finish();
    Some(Probe {
        port: port?,
        path: path?.value,
        status: status?,
        within_seconds: within
            .and_then(|field| u64::try_from(field.value).ok())
            .unwrap_or(120),
    })
}

fn read_setting(setting: Reader<'_, '_>, seen: &mut Seen) -> Option<Setting> {
    let key = setting.required_string("key");
    if let Some(key) = &key {
        seen.once(&setting, "key", "setting", key);
        if !is_key(&key.value) {
            let message = format!("\"{}\" is not a key", key.value);
            setting.problem(
                "key",
                Some(key.span.clone()),
                message,
                Some(KEY_HINT.into()),
            );
        }
    }
    let metadata = setting.string("from");
    if let Some(from) = &metadata {
        if !fields::is_setting_source(&from.value) {
            let near = did_you_mean(
                &from.value,
                fields::FIELDS
                    .iter()
                    .map(|spec| spec.path)
                    .chain(fields::COMPUTED),
            );
            let message = format!("there is no metadata field \"{}\"", from.value);
            let hint = near.map(|near| format!("did you mean \"{near}\"?"));
            setting.problem("from", Some(from.span.clone()), message, hint);
        }
        if let (true, Some(key)) = (from.value.starts_with("node."), &key) {
            seen.node_keys.push(key.value.clone());
        }
    }
    let constant = setting.scalar("constant");
    if let Some(constant) = &constant
        && constant.value.contains(['"', '\'', '\\', '\n', '`', '$'])
    {
        // systemd and sf-ctl unquote the file differently.
        let message = "a value may hold no quotes, backslashes, dollars or line breaks";
        setting.problem("constant", Some(constant.span.clone()), message, None);
    }
    let true_on = setting.has("true_on").then(|| roles(&setting, "true_on"));
    let value = match (metadata, constant, true_on) {
        (Some(field), None, None) => Some(SettingValue::Metadata(field.value)),
        (None, Some(field), None) => Some(SettingValue::Constant(field.value)),
        (None, None, Some(roles)) => Some(SettingValue::TrueOn(roles)),
        _ => {
            setting.problem(
                "",
                Some(setting.span()),
                "a setting has exactly one of from, constant and true_on",
                None,
            );
            None
        }
    };
    let required = setting.boolean("required").is_some_and(|field| field.value);
    let roles = roles(&setting, "roles");
    let about = setting.string("about").map(|field| field.value);
    setting.finish();
    Some(Setting {
        key: key?.value,
        value: value?,
        required,
        roles,
        about,
    })
}

fn read_schema(schema: Reader<'_, '_>) -> Option<Schema> {
    let made_by = schema.required_string("made_by");
    let command = plain(schema.strings("command").unwrap_or_default());
    let mut expected = BTreeMap::new();
    if let Some(table) = schema.table("expected") {
        for key in table.keys() {
            if let Some(version) = table.integer(&key.value)
                && let Ok(version) = u32::try_from(version.value)
            {
                expected.insert(key.value, version);
            }
        }
        table.finish();
    }
    let made_by = made_by?;
    let result = match made_by.value.as_str() {
        "agent" => Some(Schema::Agent),
        "command" if !command.is_empty() => Some(Schema::Command { command, expected }),
        "command" => {
            schema.missing("command", "the program and its arguments");
            None
        }
        other => {
            schema.problem(
                "made_by",
                Some(made_by.span.clone()),
                format!("\"{other}\" does not make schemas"),
                Some("write \"agent\" or \"command\"".into()),
            );
            None
        }
    };
    schema.finish();
    result
}

fn read_hooks(hooks: Reader<'_, '_>) -> Hooks {
    let system_key = hooks.strings("system_key").map(plain);
    hooks.finish();
    Hooks { system_key }
}

fn required_table<'d, 't>(reader: &Reader<'d, 't>, key: &str) -> Option<Reader<'d, 't>> {
    if !reader.has(key) {
        reader.missing(key, "a table");
    }
    reader.table(key)
}

fn required_parsed<T>(
    reader: &Reader<'_, '_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<Field<T>> {
    if !reader.has(key) {
        reader.missing(key, "a string");
    }
    reader.parsed(key, parse)
}

fn roles(reader: &Reader<'_, '_>, key: &str) -> Vec<Role> {
    let mut found = Vec::new();
    for name in reader.strings(key).unwrap_or_default() {
        match name.value.parse() {
            Ok(role) => found.push(role),
            Err(error) => reader.problem(key, Some(name.span), error, None),
        }
    }
    found
}

fn plain(fields: Vec<Field<String>>) -> Vec<String> {
    fields.into_iter().map(|field| field.value).collect()
}

fn pairs(scalars: Vec<(Field<String>, Field<String>)>) -> BTreeMap<String, String> {
    scalars
        .into_iter()
        .map(|(key, value)| (key.value, value.value))
        .collect()
}
