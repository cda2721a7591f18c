//! Reading a scenario's machines and infrastructure from TOML.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use camino::Utf8PathBuf;
use sf_contract::document::{Document, Field, Reader, did_you_mean};
use sf_contract::problem::Problem;

use super::{CredentialSpec, Delivery, ImageChoice, MachineSpec, Mariadb, Scenario, Tamper, step};
use crate::boot_test::credential::Channel;
use crate::boot_test::secret;
use crate::boot_test::template::Template;

/// First address that a machine without one gets.
const FIRST_ADDRESS: u8 = 15;

/// Names that a text in a scenario may use.
pub(super) struct Known {
    /// All machines.
    pub(super) machines: Vec<String>,
    /// All dotted names that can be filled in, so far.
    pub(super) places: BTreeSet<String>,
    /// Whether MariaDB is part of the infrastructure.
    pub(super) mariadb: bool,
    /// Whether etcd is.
    pub(super) etcd: bool,
    /// Snapshots taken so far.
    pub(super) snapshots: BTreeSet<String>,
    /// Machines that are switched on at this point.
    pub(super) running: BTreeSet<String>,
}

pub(super) fn scenario(source: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
    let document = Document::parse(source, text);
    let root = document.root();
    let name = root.required_string("name");
    let summary = root.required_string("summary");
    let Infrastructure {
        mariadb,
        etcd,
        letters,
    } = infrastructure(&root);

    let mut known = Known {
        machines: Vec::new(),
        places: places(mariadb.is_some(), etcd, letters),
        mariadb: mariadb.is_some(),
        etcd,
        snapshots: BTreeSet::new(),
        running: BTreeSet::new(),
    };
    let tables = root.tables("vm");
    for table in &tables {
        if let Some(name) = machine_name(table, &known) {
            known.places.insert(format!("vm.{name}.address"));
            known.machines.push(name);
        }
    }
    let mut machines: Vec<MachineSpec> = Vec::new();
    for table in tables {
        let machine = machine(&table, &known, &machines);
        machines.extend(machine);
        table.finish();
    }
    let mut steps = Vec::new();
    for table in root.tables("step") {
        steps.extend(step::step(&table, &mut known, &machines));
        table.finish();
    }
    if steps.is_empty() && !root.has("step") {
        root.missing("step", "at least one table [[step]]");
    }
    root.finish();
    let problems = document.into_problems();
    match (name, summary) {
        (Some(name), Some(summary)) if problems.is_empty() => Ok(Scenario {
            name: name.value,
            summary: summary.value,
            mariadb,
            etcd,
            letters,
            machines,
            steps,
        }),
        _ => Err(problems),
    }
}

/// The places that can be filled in, machines aside.
fn places(mariadb: bool, etcd: bool, letters: bool) -> BTreeSet<String> {
    let mut places: BTreeSet<String> = secret::NAMES
        .iter()
        .map(|name| format!("canary.{name}"))
        .collect();
    for (service, there) in [("mariadb", mariadb), ("etcd", etcd)] {
        if there {
            places.insert(format!("{service}.host"));
            places.insert(format!("{service}.port"));
        }
    }
    if letters {
        places.insert("letters.url".to_owned());
    }
    places
}

/// What runs beside the machines.
#[derive(Default)]
struct Infrastructure {
    mariadb: Option<Mariadb>,
    etcd: bool,
    letters: bool,
}

fn infrastructure(root: &Reader<'_, '_>) -> Infrastructure {
    let Some(table) = root.table("infrastructure") else {
        return Infrastructure::default();
    };
    let mariadb = table.table("mariadb").map(|mariadb| {
        let port = integer(&mariadb, "port", 1..=65_535);
        mariadb.finish();
        Mariadb {
            port: port.and_then(|port| u16::try_from(port).ok()),
        }
    });
    let there = |key| {
        let service = table.table(key);
        service.is_some_and(|service| {
            service.finish();
            true
        })
    };
    let infrastructure = Infrastructure {
        mariadb,
        etcd: there("etcd"),
        letters: there("letters"),
    };
    table.finish();
    infrastructure
}

fn machine_name(table: &Reader<'_, '_>, known: &Known) -> Option<String> {
    let name = table.required_string("name")?;
    let fits = name
        .value
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name.value.is_empty() || name.value.len() > 20 || !fits {
        table.problem(
            "name",
            Some(name.span),
            "not a name: 1 to 20 lower-case letters, digits and \"-\"",
            None,
        );
        return None;
    }
    if known.machines.contains(&name.value) {
        table.problem(
            "name",
            Some(name.span),
            "another machine has this name",
            None,
        );
        return None;
    }
    Some(name.value)
}

fn machine(table: &Reader<'_, '_>, known: &Known, before: &[MachineSpec]) -> Option<MachineSpec> {
    let name = table.string("name")?.value;
    let image = image(table);
    let memory = table
        .parsed("memory", |text| size(text, "M"))
        .map_or(2048, |memory| memory.value);
    let disk = table
        .parsed("disk", |text| size(text, "G"))
        .map_or(12, |disk| disk.value);
    let cpus = integer(table, "cpus", 1..=64)
        .and_then(|cpus| u8::try_from(cpus).ok())
        .unwrap_or(2);
    let forward = ports(table);
    let address = address(table, before);
    let metadata = template(table, "metadata", known);
    let metadata_by = table
        .parsed("metadata_by", Delivery::parse)
        .map_or_else(Delivery::default, |delivery| delivery.value);
    let credentials = credentials(table, known);
    let tamper = table.table("tamper").and_then(|tamper| {
        let choice = tampering(&tamper);
        tamper.finish();
        choice
    });
    let healthy = table.boolean("healthy").is_none_or(|healthy| healthy.value);
    Some(MachineSpec {
        name,
        image: image?,
        memory,
        cpus,
        disk,
        address,
        forward,
        metadata,
        metadata_by,
        credentials,
        tamper,
        healthy,
    })
}

fn credentials(table: &Reader<'_, '_>, known: &Known) -> Vec<CredentialSpec> {
    let mut credentials: Vec<CredentialSpec> = Vec::new();
    if let Some(values) = table.table("credentials") {
        for key in values.keys() {
            if let Some(value) = template(&values, &key.value, known) {
                credentials.push(CredentialSpec {
                    name: key.value,
                    value,
                    by: Channel::default(),
                });
            }
        }
        values.finish();
    }
    if let Some(ways) = table.table("credentials_by") {
        for key in ways.keys() {
            let name = key.value.as_str();
            let way = ways.parsed(name, |text| {
                let by = Channel::parse(text)?;
                by.takes(name).map(|()| by)
            });
            let credential = credentials.iter_mut().find(|one| one.name == name);
            if let Some(credential) = credential {
                credential.by = way.map_or(credential.by, |way| way.value);
            } else {
                let message = "no credential of this machine has this name";
                ways.problem(name, Some(key.span), message, None);
            }
        }
        ways.finish();
    }
    credentials
}

fn image(table: &Reader<'_, '_>) -> Option<ImageChoice> {
    match (table.string("profile"), table.string("image")) {
        (Some(profile), None) => Some(ImageChoice::Profile(profile.value)),
        (None, Some(image)) => Some(ImageChoice::File(Utf8PathBuf::from(image.value))),
        (Some(_), Some(image)) => {
            let message = "a machine has a profile or an image, not both";
            table.problem("image", Some(image.span), message, None);
            None
        }
        (None, None) => {
            if !table.has("profile") && !table.has("image") {
                table.missing(
                    "profile",
                    "a profile's name; \"image\" takes a file instead",
                );
            }
            None
        }
    }
}

fn tampering(table: &Reader<'_, '_>) -> Option<Tamper> {
    let superblock = table.boolean("superblock").is_some_and(|flag| flag.value);
    let file = table.parsed("file", |file| {
        if file.starts_with("/usr/") && file.len() > 5 {
            Ok(file.to_owned())
        } else {
            Err("not a file below /usr, the part that is verified")
        }
    });
    match (file, superblock) {
        (Some(file), _) => Some(Tamper::File(file.value)),
        (None, true) => Some(Tamper::Superblock),
        (None, false) => {
            if !table.has("file") {
                table.missing(
                    "file",
                    "a file below /usr; \"superblock\" takes true instead",
                );
            }
            None
        }
    }
}

fn address(table: &Reader<'_, '_>, before: &[MachineSpec]) -> Ipv4Addr {
    let taken = |address: Ipv4Addr| before.iter().any(|machine| machine.address == address);
    let given = table.parsed("address", |text| match text.parse::<Ipv4Addr>() {
        Ok(address) if address.octets()[..3] == [10, 0, 2] && address.octets()[3] > 3 => {
            Ok(address)
        }
        _ => Err("not an address from 10.0.2.4 to 10.0.2.255, the machines' network"),
    });
    match given {
        Some(given) => {
            if taken(given.value) {
                table.problem(
                    "address",
                    Some(given.span),
                    "another machine has this address",
                    None,
                );
            }
            given.value
        }
        None => (FIRST_ADDRESS..=250)
            .map(|last| Ipv4Addr::new(10, 0, 2, last))
            .find(|address| !taken(*address))
            .unwrap_or(Ipv4Addr::new(10, 0, 2, FIRST_ADDRESS)),
    }
}

fn ports(table: &Reader<'_, '_>) -> Vec<u16> {
    let mut ports = Vec::new();
    for port in table.strings("forward").unwrap_or_default() {
        match port.value.parse::<u16>() {
            Ok(number) if number > 0 => ports.push(number),
            _ => table.problem("forward", Some(port.span), "not a TCP port", None),
        }
    }
    ports
}

/// A whole number within a range.
pub(super) fn integer(
    table: &Reader<'_, '_>,
    key: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Option<i64> {
    let field = table.integer(key)?;
    if range.contains(&field.value) {
        return Some(field.value);
    }
    let message = format!("must be {} to {}", range.start(), range.end());
    table.problem(key, Some(field.span), message, None);
    None
}

/// A text whose places are all known.
pub(super) fn template(table: &Reader<'_, '_>, key: &str, known: &Known) -> Option<Template> {
    table
        .string(key)
        .map(|field| check(table, key, field, known))
}

/// A list of texts whose places are all known.
pub(super) fn templates(table: &Reader<'_, '_>, key: &str, known: &Known) -> Vec<Template> {
    let fields = table.strings(key).unwrap_or_default();
    fields
        .into_iter()
        .map(|field| check(table, key, field, known))
        .collect()
}

fn check(table: &Reader<'_, '_>, key: &str, field: Field<String>, known: &Known) -> Template {
    let template = Template::new(field.value);
    for name in template.names() {
        if known.places.contains(name) {
            continue;
        }
        let hint = did_you_mean(name, known.places.iter().map(String::as_str)).map_or_else(
            || {
                let all: Vec<&str> = known.places.iter().map(String::as_str).collect();
                format!("known here: {}", all.join(", "))
            },
            |near| format!("did you mean {{{near}}}?"),
        );
        let message = format!("nothing is known as {{{name}}}");
        table.problem(key, Some(field.span.clone()), message, Some(hint));
    }
    template
}

/// `2G` or `512M` in units of `unit`; a plain number is in that unit.
fn size(text: &str, unit: &str) -> Result<u64, String> {
    let wrong = || format!("not a size: a number with M or G, such as \"2{unit}\"");
    let digits = text.trim_end_matches(['M', 'G']);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match (&text[digits.len()..], unit) {
        ("", _) | ("M", "M") | ("G", "G") => Ok(number),
        ("G", _) => Ok(number * 1024),
        ("M", _) if number.is_multiple_of(1024) => Ok(number / 1024),
        _ => Err(wrong()),
    }
}

/// `90s`, `3m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "s")) => number.parse().ok(),
        Some((number, "m")) => number.parse::<u64>().ok().map(|minutes| minutes * 60),
        _ => None,
    };
    match seconds {
        Some(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a time: such as \"90s\" or \"3m\", at most an hour".to_owned()),
    }
}
