//! A boot-test scenario as a value: machines, infrastructure and steps.
//!
//! Owns the types and reading them from TOML, with every problem found in one
//! run. Refuses unknown keys, machines and places. Runs nothing.

mod action;
mod expect;
mod read;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use camino::Utf8PathBuf;
use sf_contract::problem::{Disclosure, Problem};

pub use expect::{Output, json_contains, row_matches};

use super::credential::Channel;
use super::template::Template;

/// A checked scenario: every name in it is known.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Short name, `first-boot`.
    pub name: String,
    /// What it proves, one sentence.
    pub summary: String,
    /// Starts MariaDB on this port, or on a free one.
    pub mariadb: Option<Mariadb>,
    /// Starts etcd.
    pub etcd: bool,
    /// Takes letters of nodes that call home.
    pub letters: bool,
    /// The machines.
    pub machines: Vec<MachineSpec>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The database server of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mariadb {
    /// A fixed port on loopback; `None` for a free one.
    pub port: Option<u16>,
}

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// Name in steps and results; letters, digits and `-`.
    pub name: String,
    /// What it boots.
    pub image: ImageChoice,
    /// MiB of memory.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u8,
    /// GiB that its disk is grown to before the first boot.
    pub disk: u64,
    /// Its address in 10.0.2.0/24.
    pub address: Ipv4Addr,
    /// Guest TCP ports that are reachable from the host.
    pub forward: Vec<u16>,
    /// Node metadata.
    pub metadata: Option<Template>,
    /// How the metadata gets to the machine.
    pub metadata_by: Delivery,
    /// More credentials.
    pub credentials: Vec<CredentialSpec>,
    /// One byte of the immutable part to change.
    pub tamper: Option<Tamper>,
    /// Whether the built-in checks of a healthy node apply.
    pub healthy: bool,
}

/// One credential of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSpec {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Template,
    /// How it gets there.
    pub by: Channel,
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageChoice {
    /// The newest image of a profile under the images folder.
    Profile(String),
    /// A raw disk image.
    File(Utf8PathBuf),
}

/// How metadata gets to a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As the credential `sf.metadata`, by SMBIOS.
    #[default]
    Credential,
    /// As `sf-image metadata seal` makes credentials of it, by `fw_cfg`.
    FwCfg,
    /// The same with the null key, in the ESP.
    Esp,
    /// On a `NoCloud` drive, as `sf-image metadata seal` makes it.
    ConfigDrive,
    /// From the run's metadata server, named on the kernel command line.
    Url,
}

impl MachineSpec {
    /// Whether something of it goes into the ESP.
    pub fn is_sealed(&self) -> bool {
        self.metadata_by == Delivery::Esp || self.credentials.iter().any(|one| one.by.is_sealed())
    }
}

impl Delivery {
    /// Its name in scenarios.
    const NAMES: [(&'static str, Self); 5] = [
        ("credential", Self::Credential),
        ("fw-cfg", Self::FwCfg),
        ("esp", Self::Esp),
        ("config-drive", Self::ConfigDrive),
        ("url", Self::Url),
    ];

    fn parse(text: &str) -> Result<Self, &'static str> {
        Self::NAMES
            .into_iter()
            .find_map(|(name, delivery)| (name == text).then_some(delivery))
            .ok_or(
                "not a way for metadata to get to a machine: credential, fw-cfg, esp, \
                 config-drive, url",
            )
    }
}

/// Where one byte of `/usr` is flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// In the data of this file (`/usr/bin/sf-firstboot`).
    File(String),
    /// In the file system's super block.
    Superblock,
}

/// One step of a scenario.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it proves or does, as shown in the results.
    pub title: String,
    /// Time it may take on a machine with hardware acceleration.
    pub within: Option<Duration>,
    /// What is done.
    pub action: Action,
}

/// A program that runs beside the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The database.
    Mariadb,
    /// The key-value store of Shaken Fist 0.7.
    Etcd,
}

impl Service {
    /// Its name in scenarios and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mariadb => "mariadb",
            Self::Etcd => "etcd",
        }
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Starts a service.
    Start(Service),
    /// Stops a service.
    Stop(Service),
    /// Switches a machine on; does not wait.
    Boot(String),
    /// Looks at a machine a last time, shuts it down from inside and waits.
    PowerOff {
        /// The machine.
        vm: String,
        /// Whether the checks of a healthy machine are made, where they apply.
        checks: bool,
    },
    /// Waits for the end of a run of the agent.
    Agent(AgentStep),
    /// Waits until the daemons' readiness probes passed.
    Ready {
        /// The machine.
        vm: String,
        /// Daemons that must be among those reported.
        daemons: Vec<String>,
    },
    /// An HTTP request from the host to a forwarded port.
    Request(RequestStep),
    /// SQL as the database's own user.
    Sql {
        /// Statements, separated by semicolons.
        sql: Template,
        /// Rows that the statements must give: columns joined by ` | `, `*`
        /// standing for anything. `None` to take what comes.
        rows: Option<Vec<Template>>,
    },
    /// Remembers the database's content.
    Snapshot {
        /// Under this name.
        name: String,
        /// Of these tables; empty for all.
        tables: Vec<String>,
    },
    /// Compares the database's content with a snapshot.
    UnchangedSince(String),
    /// A shell script in a machine.
    Run {
        /// The machine.
        vm: String,
        /// Bash.
        script: Template,
        /// What must come of it.
        expect: Output,
    },
    /// What the serial console must and must not say.
    Console {
        /// The machine.
        vm: String,
        /// Texts that must be there.
        contains: Vec<Template>,
        /// Texts that must not.
        lacks: Vec<Template>,
        /// Outcomes of the agent (`ready`) that must not have been reported.
        never: Vec<String>,
    },
    /// Waits for a letter with this JSON in it, and looks for secrets in all.
    Letter(Template),
    /// Looks for the marker secrets everywhere.
    SearchSecrets(SearchStep),
}

/// What a run of the agent must report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStep {
    /// The machine.
    pub vm: String,
    /// `ready`, `started` or `failed`.
    pub outcome: String,
    /// Exit code.
    pub exit_code: Option<i64>,
    /// Failure code (`SF-DB-REFUSED`).
    pub code: Option<String>,
    /// Texts that the failure card must have.
    pub card: Vec<Template>,
    /// No run before this one may have failed, not even transiently.
    pub first_try: bool,
}

/// An HTTP request and what must come back.
#[derive(Clone, Debug)]
pub struct RequestStep {
    /// The machine.
    pub vm: String,
    /// `GET`, `POST`, ….
    pub method: String,
    /// Path and query.
    pub path: Template,
    /// The guest's port.
    pub port: u16,
    /// JSON body.
    pub body: Option<Template>,
    /// Header lines: name and value.
    pub headers: Vec<(String, Template)>,
    /// Status code that must come back.
    pub status: u16,
    /// JSON that the answer must contain, see [`json_contains`].
    pub answer: Option<Template>,
    /// Number of items that the answer, a list, must have.
    pub count: Option<usize>,
    /// Name to JSON pointer: parts of the answer for later steps.
    pub capture: BTreeMap<String, String>,
}

/// Where secrets may be.
#[derive(Clone, Debug)]
pub struct SearchStep {
    /// The machines, all switched off.
    pub vms: Vec<String>,
    /// Places that may hold one.
    pub allow: Vec<Allowed>,
}

/// A place that may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// `disk:/etc/sf/config`, `environ:sf-daemon.service/*`; `*` stands for anything.
    pub place: String,
    /// The secret's name; `None` for all.
    pub secret: Option<String>,
    /// Why that is right.
    pub reason: String,
}

/// A scenario that cannot be run, with its text for the source frames.
#[derive(Debug)]
pub struct Invalid {
    /// Its text.
    pub text: String,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for problem in &self.problems {
            writeln!(
                formatter,
                "{}\n",
                problem.frame(&self.text, Disclosure::Full)
            )?;
        }
        match self.problems.len() {
            1 => formatter.write_str("the scenario has 1 problem"),
            count => write!(formatter, "the scenario has {count} problems"),
        }
    }
}

impl std::error::Error for Invalid {}

impl Scenario {
    /// Reads a scenario; `source` is its name in problems.
    pub fn parse(source: &str, text: &str) -> Result<Self, Invalid> {
        read::scenario(source, text).map_err(|problems| Invalid {
            text: text.to_owned(),
            problems,
        })
    }

    /// The machine of that name.
    pub fn machine(&self, name: &str) -> Option<&MachineSpec> {
        self.machines.iter().find(|machine| machine.name == name)
    }

    /// Whether a later step searches this machine for secrets.
    pub fn searches(&self, machine: &str) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::SearchSecrets(search) => search.vms.iter().any(|name| name == machine),
            _ => false,
        })
    }
}
