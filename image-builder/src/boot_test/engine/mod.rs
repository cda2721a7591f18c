//! Runs a scenario: its steps in order, the built-in checks of healthy nodes,
//! and the end of everything that was started.
//!
//! A step that only looks (`request`, `sql`, `run`, `console`, …) does not stop
//! the scenario when it fails; one that others build on (`boot`, `agent`, …) does.

mod account;
mod database;
mod health;
mod letter;
mod look;
mod secrets;
mod wait;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::accel::Choice;
use super::credential::{self, Channel, Credential};
use super::infra::{self, Server};
use super::letters::LetterBox;
use super::machine::{Machine, Noticed, Told};
use super::metadata_server::MetadataServer;
use super::prepare::Ready;
use super::qemu::Accel;
use super::report::{Probe, Report, Verdict};
use super::scenario::{Action, Delivery, MachineSpec, Scenario, Service, Step};
use super::secret::Secrets;
use super::sql::Content;
use super::template::Template;
use super::{Error, chain, console, inspect};

/// Console lines shown with a failure.
const LAST_WORDS: usize = 30;

/// How often a waiting step looks again.
const PAUSE: Duration = Duration::from_millis(250);

/// Limits on hardware of steps that give none.
const DEFAULT_LIMIT: Duration = Duration::from_mins(2);

/// A running scenario.
pub(super) struct Engine<'r> {
    scenario: &'r Scenario,
    choice: Choice,
    folder: Utf8PathBuf,
    secrets: Secrets,
    values: BTreeMap<String, String>,
    machines: Vec<Machine>,
    mariadb: Option<Server>,
    etcd: Option<Server>,
    metadata_server: Option<MetadataServer>,
    letters: Option<LetterBox>,
    snapshots: BTreeMap<String, (Vec<String>, Content)>,
    /// Machine and boot number to figures.
    timings: BTreeMap<(String, usize), BTreeMap<String, f64>>,
    probes: Vec<Probe>,
    /// Machine to the length of its console that a failure has shown.
    shown: BTreeMap<String, usize>,
    start: Instant,
    started: String,
    narrate: &'r mut dyn FnMut(&str),
}

/// What a step saw.
pub(super) struct Seen {
    asked: Value,
    answered: Value,
    problem: Option<String>,
}

impl Seen {
    fn good(asked: Value, answered: Value) -> Self {
        Self {
            asked,
            answered,
            problem: None,
        }
    }

    fn bad(asked: Value, answered: Value, problem: impl Into<String>) -> Self {
        Self {
            asked,
            answered,
            problem: Some(problem.into()),
        }
    }
}

impl<'r> Engine<'r> {
    /// Makes secrets, disks and servers; starts nothing.
    pub(super) fn new(
        scenario: &'r Scenario,
        ready: &Ready,
        choice: Choice,
        folder: &Utf8Path,
        cache: &Utf8Path,
        narrate: &'r mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let failed = |source| Error::Folder {
            path: folder.to_owned(),
            source,
        };
        let secrets = Secrets::random().map_err(failed)?;
        let mut values: BTreeMap<String, String> = secrets
            .values()
            .map(|(name, value)| (format!("canary.{name}"), value.to_owned()))
            .collect();
        let mut mariadb = None;
        if let Some(wanted) = scenario.mariadb {
            let port = wanted
                .port
                .map_or_else(infra::free_port, Ok)
                .map_err(failed)?;
            let password = secrets.value("database_password");
            let server = infra::mariadb(&folder.join("mariadb"), cache, port, password)?;
            values.insert("mariadb.host".into(), infra::HOST_FROM_INSIDE.into());
            values.insert("mariadb.port".into(), port.to_string());
            mariadb = Some(server);
        }
        let mut etcd = None;
        if scenario.etcd {
            etcd = Some(infra::etcd(&folder.join("etcd"))?);
            values.insert("etcd.host".into(), infra::HOST_FROM_INSIDE.into());
            values.insert("etcd.port".into(), infra::ETCD_PORT.to_string());
        }
        let mut letters = None;
        if scenario.letters {
            let token = secrets.value("letter_token");
            let server = LetterBox::start(token).map_err(failed)?;
            values.insert("letters.url".into(), server.url(token));
            letters = Some(server);
        }
        let mut machines = Vec::new();
        for (spec, image) in scenario.machines.iter().zip(&ready.images) {
            let mut spec = spec.clone();
            if choice.one_processor {
                spec.cpus = 1;
            }
            values.insert(
                format!("vm.{}.address", spec.name),
                spec.address.to_string(),
            );
            let machine = Machine::prepare(
                spec.clone(),
                image.clone(),
                choice.accel,
                ready.firmware.clone(),
                folder.join(&spec.name),
            )
            .map_err(|source| Error::Machine {
                name: spec.name.clone(),
                source,
            })?;
            machines.push(machine);
        }
        Ok(Self {
            scenario,
            choice,
            folder: folder.to_owned(),
            secrets,
            values,
            machines,
            mariadb,
            etcd,
            metadata_server: None,
            letters,
            snapshots: BTreeMap::new(),
            timings: BTreeMap::new(),
            probes: Vec::new(),
            shown: BTreeMap::new(),
            start: Instant::now(),
            started: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            narrate,
        })
    }

    /// Runs all steps and ends everything.
    pub(super) fn run(mut self) -> Report {
        let opening = self.report().opening();
        (self.narrate)(&opening);
        let scenario = self.scenario;
        let mut stopped = false;
        for step in &scenario.steps {
            if stopped {
                self.not_run(step);
                continue;
            }
            let good = self.step(step);
            stopped = !good && step.action.others_build_on();
        }
        self.finish(stopped);
        let mut report = self.report();
        report.count();
        report
    }

    /// Looks at every machine that is still on a last time, and ends it.
    fn finish(&mut self, stopped: bool) {
        for index in 0..self.machines.len() {
            if self.machines[index].is_on() {
                if !stopped {
                    self.check_health(index);
                }
                self.collect(index);
                self.machines[index].end();
            }
        }
        for server in [&mut self.mariadb, &mut self.etcd].into_iter().flatten() {
            // One that a step stopped is stopped already.
            let _ = server.stop();
        }
    }

    fn step(&mut self, step: &Step) -> bool {
        let begin = Instant::now();
        let limit = self.scaled(step.within.unwrap_or(DEFAULT_LIMIT));
        let seen = match &step.action {
            Action::Start(service) => self.service(*service, true),
            Action::Stop(service) => self.service(*service, false),
            Action::Boot(vm) => self.boot(vm),
            Action::PowerOff { vm, checks } => self.power_off(vm, *checks, limit),
            Action::Agent(agent) => self.agent(agent, limit),
            Action::Ready { vm, daemons } => self.ready(vm, daemons, limit),
            Action::Request(request) => self.request(request, step.within),
            Action::Sql { sql, rows } => self.sql(sql, rows.as_deref(), step.within),
            Action::Snapshot { name, tables } => self.snapshot(name, tables),
            Action::UnchangedSince(name) => self.unchanged_since(name),
            Action::Run { vm, script, expect } => self.script(vm, script, expect, step.within),
            Action::Console {
                vm,
                contains,
                lacks,
                never,
            } => self.console(vm, contains, lacks, never, step.within),
            Action::Letter(wanted) => self.letter(wanted, step.within),
            Action::SearchSecrets(search) => self.search_secrets(search),
        };
        let machine = step.action.machine().map(str::to_owned);
        self.record(&step.title, step.action.verb(), machine, begin, seen)
    }

    /// Keeps and tells what a probe saw; whether it was good.
    fn record(
        &mut self,
        title: &str,
        kind: &'static str,
        machine: Option<String>,
        begin: Instant,
        seen: Seen,
    ) -> bool {
        let good = seen.problem.is_none();
        let console = match &machine {
            Some(name) if !good => self.last_words(name),
            _ => Vec::new(),
        };
        let probe = Probe {
            title: title.to_owned(),
            kind,
            machine,
            asked: self.secrets.mask_json(&seen.asked),
            answered: self.secrets.mask_json(&seen.answered),
            verdict: if good {
                Verdict::Passed
            } else {
                Verdict::Failed
            },
            problem: seen.problem.map(|problem| self.secrets.mask(&problem)),
            console,
            at: begin.duration_since(self.start).as_secs_f64(),
            seconds: begin.elapsed().as_secs_f64(),
        };
        (self.narrate)(&probe.to_string());
        self.probes.push(probe);
        good
    }

    /// The end of a machine's console, unless nothing was added since it was
    /// last shown.
    fn last_words(&mut self, name: &str) -> Vec<String> {
        let Some(index) = self.index(name) else {
            return Vec::new();
        };
        let console = self.machines[index].console();
        if self.shown.insert(name.to_owned(), console.len()) == Some(console.len()) {
            return Vec::new();
        }
        let words = console::last_words(&console, LAST_WORDS);
        words
            .into_iter()
            .map(|line| self.secrets.mask(line))
            .collect()
    }

    fn not_run(&mut self, step: &Step) {
        let probe = Probe {
            title: step.title.clone(),
            kind: step.action.verb(),
            machine: step.action.machine().map(str::to_owned),
            asked: Value::Null,
            answered: Value::Null,
            verdict: Verdict::NotRun,
            problem: None,
            console: Vec::new(),
            at: self.start.elapsed().as_secs_f64(),
            seconds: 0.0,
        };
        (self.narrate)(&probe.to_string());
        self.probes.push(probe);
    }

    fn service(&mut self, service: Service, start: bool) -> Seen {
        let server = match service {
            Service::Mariadb => &mut self.mariadb,
            Service::Etcd => &mut self.etcd,
        };
        let Some(server) = server else {
            return Seen::bad(Value::Null, Value::Null, "not part of the infrastructure");
        };
        let asked = json!({ "port": server.port() });
        let result = if start { server.start() } else { server.stop() };
        match result {
            Ok(()) => Seen::good(asked, Value::Null),
            Err(error) => Seen::bad(asked, Value::Null, chain(&error)),
        }
    }

    fn boot(&mut self, vm: &str) -> Seen {
        let Some(index) = self.index(vm) else {
            return unknown(vm);
        };
        let spec = self.machines[index].spec.clone();
        let sample = self.scenario.searches(vm);
        let told = match self.told(&spec, sample) {
            Ok(told) => told,
            Err(problem) => return Seen::bad(Value::Null, Value::Null, problem),
        };
        let credentials = told.credentials.iter();
        let asked = json!({
            "image": self.machines[index].image,
            "credentials": credentials.map(|one| (&one.name, one.by.name())).collect::<BTreeMap<_, _>>(),
            "kernel_arguments": told.kernel_arguments,
            "drive": told.drive.is_some(),
        });
        let answered = json!({ "tampered": self.machines[index].flipped });
        match self.machines[index].boot(told) {
            Ok(()) => Seen::good(asked, answered),
            Err(error) => Seen::bad(asked, answered, chain(&error)),
        }
    }

    /// What a machine is told.
    fn told(&mut self, spec: &MachineSpec, sample: bool) -> Result<Told, String> {
        let mut told = Told::default();
        for (name, value) in inspect::credentials(sample) {
            let credential = Credential::new(&name, &value, Channel::Smbios)?;
            told.credentials.push(credential);
        }
        for one in &spec.credentials {
            let credential = Credential::new(&one.name, &self.fill(&one.value)?, one.by)?;
            told.credentials.push(credential);
        }
        if let Some(metadata) = &spec.metadata {
            let document = self.fill(metadata)?;
            self.deliver(spec, &document, &mut told)?;
        }
        Ok(told)
    }

    /// Puts metadata where the machine will find it.
    fn deliver(
        &mut self,
        spec: &MachineSpec,
        document: &str,
        told: &mut Told,
    ) -> Result<(), String> {
        let sealed = |by| {
            let scratch = self.folder.join(format!("{}.sealed", spec.name));
            credential::sealed(document, by, scratch.as_std_path())
        };
        match spec.metadata_by {
            Delivery::Credential => {
                let credential = Credential::new("sf.metadata", document, Channel::Smbios)?;
                told.credentials.push(credential);
            }
            Delivery::FwCfg => told.credentials.extend(sealed(Channel::FwCfg)?),
            Delivery::Esp => told.credentials.extend(sealed(Channel::Esp)?),
            Delivery::ConfigDrive => {
                let drive = crate::metadata::drive::image(&spec.name, document)
                    .map_err(|error| format!("the config drive cannot be made: {error}"))?;
                told.drive = Some(drive);
            }
            Delivery::Url => {
                if self.metadata_server.is_none() {
                    let server = MetadataServer::start()
                        .map_err(|error| format!("the metadata server: {error}"))?;
                    self.metadata_server = Some(server);
                }
                told.kernel_arguments = self
                    .metadata_server
                    .as_ref()
                    .map(|server| server.offer(&spec.name, document));
            }
        }
        Ok(())
    }

    /// Lets every machine notice what happened by itself; says why the machine
    /// `about`, if it has ended, did so.
    fn poll(&mut self, about: usize) -> Result<(), String> {
        let mut ended = None;
        for index in 0..self.machines.len() {
            let name = self.machines[index].spec.name.clone();
            match self.machines[index].poll() {
                Ok(Noticed::Nothing) => {}
                Ok(Noticed::Retried(reason)) => {
                    (self.narrate)(&format!("  ! {name} was started again, once: {reason}"));
                }
                Ok(Noticed::Ended(status)) if index == about => {
                    ended = Some(format!(
                        "the machine went off by itself: QEMU ended with {status}"
                    ));
                }
                Ok(Noticed::Ended(status)) => {
                    (self.narrate)(&format!("  ! {name} went off by itself: {status}"));
                }
                Err(error) if index == about => ended = Some(chain(&error)),
                Err(error) => (self.narrate)(&format!("  ! {name}: {error}")),
            }
        }
        match ended {
            Some(reason) => Err(reason),
            None if self.machines[about].is_on() => Ok(()),
            None => Err("the machine is off".to_owned()),
        }
    }

    fn index(&self, vm: &str) -> Option<usize> {
        self.machines
            .iter()
            .position(|machine| machine.spec.name == vm)
    }

    fn fill(&self, template: &Template) -> Result<String, String> {
        template
            .fill(&self.values)
            .map_err(|error| error.to_string())
    }

    fn fill_all(&self, templates: &[Template]) -> Result<Vec<String>, String> {
        templates
            .iter()
            .map(|template| self.fill(template))
            .collect()
    }

    fn is_emulated(&self) -> bool {
        self.choice.accel == Accel::Tcg
    }

    fn scaled(&self, limit: Duration) -> Duration {
        limit * self.choice.accel.scale()
    }
}

fn unknown(vm: &str) -> Seen {
    Seen::bad(
        Value::Null,
        Value::Null,
        format!("no machine is called {vm}"),
    )
}
