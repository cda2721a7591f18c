//! Reading a scenario's steps. A step is a table with one verb (`boot`,
//! `agent`, `request`, …) and what belongs to it.

use std::collections::BTreeMap;
use std::ops::Range;

use sf_contract::document::{Field, Reader, did_you_mean};

use super::read::{Known, duration, integer, template, templates};
use super::{
    Action, AgentStep, Allowed, MachineSpec, Output, RequestStep, SearchStep, Service, Step,
};
use crate::boot_test::secret;

/// All verbs, in the order of the reference.
const VERBS: [&str; 14] = [
    "start",
    "stop",
    "boot",
    "power_off",
    "agent",
    "ready",
    "request",
    "sql",
    "snapshot",
    "unchanged_since",
    "run",
    "console",
    "letter",
    "search_secrets",
];

pub(super) fn step(
    table: &Reader<'_, '_>,
    known: &mut Known,
    machines: &[MachineSpec],
) -> Option<Step> {
    let title = table.string("title");
    let within = table.parsed("within", duration).map(|within| within.value);
    let verbs: Vec<&str> = VERBS.into_iter().filter(|verb| table.has(verb)).collect();
    let [verb] = verbs[..] else {
        let message = if verbs.is_empty() {
            "a step needs a verb".to_owned()
        } else {
            format!("a step has one verb, not {}", verbs.join(" and "))
        };
        let hint = format!("verbs: {}", VERBS.join(", "));
        table.problem("", Some(table.span()), message, Some(hint));
        return None;
    };
    let action = StepReader {
        table,
        known,
        machines,
        verb,
    }
    .action()?;
    let title = title.map_or_else(|| default_title(&action), |title| title.value);
    Some(Step {
        title,
        within,
        action,
    })
}

/// What reading a step's verb needs.
struct StepReader<'s, 'd, 't> {
    table: &'s Reader<'d, 't>,
    known: &'s mut Known,
    machines: &'s [MachineSpec],
    verb: &'static str,
}

impl StepReader<'_, '_, '_> {
    fn action(mut self) -> Option<Action> {
        match self.verb {
            "start" => self.service().map(Action::Start),
            "stop" => self.service().map(Action::Stop),
            "boot" => {
                let vm = self.verb_machine()?;
                if !self.known.running.insert(vm.value.clone()) {
                    self.wrong(vm.span, "this machine is on already");
                }
                Some(Action::Boot(vm.value))
            }
            "power_off" => {
                let vm = self.verb_running()?;
                self.known.running.remove(&vm);
                let checks = self.table.boolean("checks").is_none_or(|field| field.value);
                Some(Action::PowerOff { vm, checks })
            }
            "agent" => self.agent(),
            "ready" => {
                let daemons = self.plain("daemons");
                Some(Action::Ready {
                    vm: self.verb_running()?,
                    daemons,
                })
            }
            "request" => self.request(),
            "sql" => self.sql(),
            "snapshot" => {
                self.need_mariadb();
                let name = self.table.string("snapshot")?.value;
                self.known.snapshots.insert(name.clone());
                Some(Action::Snapshot {
                    name,
                    tables: self.plain("tables"),
                })
            }
            "unchanged_since" => {
                self.need_mariadb();
                let name = self.table.string("unchanged_since")?;
                if !self.known.snapshots.contains(&name.value) {
                    self.wrong(name.span, "no step before this one takes this snapshot");
                }
                Some(Action::UnchangedSince(name.value))
            }
            "run" => {
                let script = template(self.table, "run", self.known);
                let expect = self.output();
                Some(Action::Run {
                    vm: self.key_running("vm")?,
                    script: script?,
                    expect,
                })
            }
            "console" => {
                let contains = templates(self.table, "contains", self.known);
                let lacks = templates(self.table, "lacks", self.known);
                let never = self.plain("never");
                Some(Action::Console {
                    vm: self.verb_machine()?.value,
                    contains,
                    lacks,
                    never,
                })
            }
            "letter" => {
                if !self.known.places.contains("letters.url") {
                    let span = self.table.key_span(self.verb);
                    let hint = Some("add `letters = {}` there".to_owned());
                    let message = "needs a letter box in [infrastructure]";
                    self.table.problem(self.verb, span, message, hint);
                }
                self.json("letter").map(Action::Letter)
            }
            _ => self.search(),
        }
    }

    fn wrong(&self, span: Range<usize>, message: &str) {
        self.table.problem(self.verb, Some(span), message, None);
    }

    fn plain(&self, key: &str) -> Vec<String> {
        let fields = self.table.strings(key).unwrap_or_default();
        fields.into_iter().map(|field| field.value).collect()
    }

    fn service(&self) -> Option<Service> {
        let name = self.table.string(self.verb)?;
        let (service, there) = match name.value.as_str() {
            "mariadb" => (Service::Mariadb, self.known.mariadb),
            "etcd" => (Service::Etcd, self.known.etcd),
            _ => {
                self.wrong(name.span, "not a service: \"mariadb\" or \"etcd\"");
                return None;
            }
        };
        if !there {
            self.wrong(name.span, "not in [infrastructure]");
        }
        Some(service)
    }

    fn need_mariadb(&self) {
        if !self.known.mariadb {
            let span = self.table.key_span(self.verb);
            let hint = Some("add `mariadb = {}` there".to_owned());
            self.table
                .problem(self.verb, span, "needs MariaDB in [infrastructure]", hint);
        }
    }

    fn verb_machine(&self) -> Option<Field<String>> {
        self.machine_in(self.verb)
    }

    fn machine_in(&self, key: &str) -> Option<Field<String>> {
        let vm = self.table.required_string(key)?;
        if self.known.machines.contains(&vm.value) {
            return Some(vm);
        }
        let names = self.known.machines.iter().map(String::as_str);
        let hint = did_you_mean(&vm.value, names).map(|near| format!("did you mean \"{near}\"?"));
        self.table
            .problem(key, Some(vm.span), "no machine has this name", hint);
        None
    }

    fn verb_running(&self) -> Option<String> {
        self.key_running(self.verb)
    }

    fn key_running(&self, key: &str) -> Option<String> {
        let vm = self.machine_in(key)?;
        if !self.known.running.contains(&vm.value) {
            self.table.problem(
                key,
                Some(vm.span),
                "this machine is off at this point",
                None,
            );
            return None;
        }
        Some(vm.value)
    }

    fn agent(&self) -> Option<Action> {
        let outcome = self.table.required_string("outcome");
        let exit_code = integer(self.table, "exit_code", 0..=255);
        let code = self.table.string("code").map(|code| code.value);
        let card = templates(self.table, "card", self.known);
        let first_try = self
            .table
            .boolean("first_try")
            .is_some_and(|flag| flag.value);
        let vm = self.verb_running()?;
        let outcome = outcome?;
        if !["ready", "started", "failed"].contains(&outcome.value.as_str()) {
            let message = "not an outcome: \"ready\", \"started\" or \"failed\"";
            self.table
                .problem("outcome", Some(outcome.span), message, None);
            return None;
        }
        let outcome = outcome.value;
        Some(Action::Agent(AgentStep {
            vm,
            outcome,
            exit_code,
            code,
            card,
            first_try,
        }))
    }

    fn request(&mut self) -> Option<Action> {
        let line = self.table.string("request")?;
        let status = integer(self.table, "status", 100..=599);
        let port = integer(self.table, "port", 1..=65_535).unwrap_or(13_000);
        let body = self.json("body");
        let answer = self.json("answer");
        let count = integer(self.table, "count", 0..=100_000);
        let mut headers = Vec::new();
        if let Some(table) = self.table.table("headers") {
            for key in table.keys() {
                headers.extend(
                    template(&table, &key.value, self.known).map(|value| (key.value, value)),
                );
            }
            table.finish();
        }
        let vm = self.key_running("vm");
        let capture: BTreeMap<String, String> = self
            .table
            .scalars("capture")
            .into_iter()
            .map(|(name, pointer)| (name.value, pointer.value))
            .collect();
        self.known
            .places
            .extend(capture.keys().map(|name| format!("capture.{name}")));
        let Some((method, path)) = line.value.split_once(' ').filter(|(method, path)| {
            method.chars().all(|c| c.is_ascii_uppercase()) && path.starts_with('/')
        }) else {
            self.wrong(
                line.span,
                "not a request: a method and a path, \"GET /nodes\"",
            );
            return None;
        };
        let Some(status) = status else {
            if !self.table.has("status") {
                self.table
                    .missing("status", "the status code that must come back");
            }
            return None;
        };
        let vm = vm?;
        let port = u16::try_from(port).unwrap_or_default();
        let forwarded = self
            .machines
            .iter()
            .find(|machine| machine.name == vm)
            .is_some_and(|machine| machine.forward.contains(&port));
        if !forwarded {
            let hint = Some(format!("add `forward = [\"{port}\"]` to the machine"));
            let message = format!("port {port} of {vm} is not forwarded");
            self.table
                .problem("vm", self.table.key_span("vm"), message, hint);
        }
        Some(Action::Request(RequestStep {
            vm,
            method: method.to_owned(),
            path: super::Template::new(path),
            port,
            body,
            headers,
            status: u16::try_from(status).unwrap_or_default(),
            answer,
            count: count.and_then(|count| usize::try_from(count).ok()),
            capture,
        }))
    }

    /// A text that is JSON, places aside.
    fn json(&self, key: &str) -> Option<super::Template> {
        let text = template(self.table, key, self.known)?;
        if let Err(error) = serde_json::from_str::<serde_json::Value>(text.as_str()) {
            let span = self.table.string(key).map(|field| field.span);
            self.table
                .problem(key, span, format!("not JSON: {error}"), None);
        }
        Some(text)
    }

    fn sql(&self) -> Option<Action> {
        self.need_mariadb();
        let sql = template(self.table, "sql", self.known)?;
        let rows = self
            .table
            .has("rows")
            .then(|| templates(self.table, "rows", self.known));
        Some(Action::Sql { sql, rows })
    }

    fn output(&self) -> Output {
        // `exit = "any"` would be a second type for one key; any is the rare case.
        let any = self
            .table
            .boolean("any_exit")
            .is_some_and(|flag| flag.value);
        let exit = integer(self.table, "exit", 0..=255);
        Output {
            exit: if any { None } else { Some(exit.unwrap_or(0)) },
            contains: templates(self.table, "contains", self.known),
            lacks: templates(self.table, "lacks", self.known),
            equals: template(self.table, "equals", self.known),
        }
    }

    fn search(&self) -> Option<Action> {
        let mut vms = Vec::new();
        for vm in self.table.strings("search_secrets")? {
            if !self.known.machines.contains(&vm.value) {
                self.wrong(vm.span, "no machine has this name");
            } else if self.known.running.contains(&vm.value) {
                self.wrong(
                    vm.span,
                    "this machine is on: its disk can be read after power_off",
                );
            } else {
                vms.push(vm.value);
            }
        }
        let mut allow = Vec::new();
        for table in self.table.tables("allow") {
            let place = table.required_string("place");
            let reason = table.required_string("reason");
            let name = table.parsed("secret", |name| {
                let known = secret::NAMES.contains(&name);
                if known {
                    Ok(name.to_owned())
                } else {
                    Err(format!(
                        "not a secret of a run: {}",
                        secret::NAMES.join(", ")
                    ))
                }
            });
            table.finish();
            if let (Some(place), Some(reason)) = (place, reason) {
                allow.push(Allowed {
                    place: place.value,
                    secret: name.map(|name| name.value),
                    reason: reason.value,
                });
            }
        }
        Some(Action::SearchSecrets(SearchStep { vms, allow }))
    }
}

fn default_title(action: &Action) -> String {
    match action {
        Action::Start(service) => format!("start {}", service.name()),
        Action::Stop(service) => format!("stop {}", service.name()),
        Action::Boot(vm) => format!("boot {vm}"),
        Action::PowerOff { vm, .. } => format!("power off {vm}"),
        Action::Agent(step) => format!("{}: the agent ends as {}", step.vm, step.outcome),
        Action::Ready { vm, .. } => format!("{vm}: the daemons are ready"),
        Action::Request(step) => {
            format!(
                "{}: {} {} answers {}",
                step.vm,
                step.method,
                step.path.as_str(),
                step.status
            )
        }
        Action::Sql { .. } => "SQL".to_owned(),
        Action::Snapshot { name, .. } => format!("remember the database as \"{name}\""),
        Action::UnchangedSince(name) => format!("the database is as in \"{name}\""),
        Action::Run { vm, .. } => format!("{vm}: run a script"),
        Action::Console { vm, .. } => format!("{vm}: read the console"),
        Action::Letter(_) => "a node calls home".to_owned(),
        Action::SearchSecrets(step) => format!("no secret on {}", step.vms.join(", ")),
    }
}
