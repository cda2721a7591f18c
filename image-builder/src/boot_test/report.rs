//! What a run found out, as one value. Text and JSON are views of it, and so
//! is every later format.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::accel::Choice;
use super::disk::Flipped;

/// The format of the JSON form.
pub const SCHEMA: u32 = 1;

/// A whole run of one scenario. Secrets are masked throughout.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What it proves.
    pub summary: String,
    /// When it began, UTC.
    pub started: String,
    /// How long it took, seconds.
    pub seconds: f64,
    /// How machines were run, and why so.
    pub acceleration: Acceleration,
    /// The machines.
    pub machines: Vec<MachineReport>,
    /// Steps and built-in checks in the order of time.
    pub probes: Vec<Probe>,
    /// Probes that passed.
    pub passed: usize,
    /// Probes that failed.
    pub failed: usize,
    /// Steps that were not reached.
    pub not_run: usize,
    /// Where logs and disks are kept; only after a failure.
    pub folder: Option<String>,
}

/// How machines were run.
#[derive(Clone, Debug, Serialize)]
pub struct Acceleration {
    /// The accelerator and why.
    #[serde(flatten)]
    pub choice: Choice,
    /// What every `within` was multiplied by.
    pub deadline_factor: u32,
}

/// One machine.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// Its name.
    pub name: String,
    /// Its image's file name.
    pub image: String,
    /// Its address.
    pub address: String,
    /// MiB.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u8,
    /// Guest port to host port.
    pub forward: BTreeMap<u16, u16>,
    /// The byte that was changed.
    pub tampered: Option<Flipped>,
    /// Its boots, oldest first.
    pub boots: Vec<BootReport>,
}

/// One boot of a machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BootReport {
    /// Why this boot is a second try of the one before.
    pub retried: Option<String>,
    /// Seconds since the kernel started, by event (`agent_started`,
    /// `daemons_ready`), and other figures of the machine.
    pub timings: BTreeMap<String, f64>,
    /// Phases that the agent reported.
    pub phases: Vec<String>,
    /// Ends of runs that the agent reported.
    pub outcomes: Vec<Value>,
    /// Reports that the daemons are ready.
    pub ready: Vec<Value>,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// Not as it must be.
    Failed,
    /// Not reached.
    NotRun,
}

/// A step or a built-in check.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// What it proves or does.
    pub title: String,
    /// The step's verb, or `check`.
    pub kind: &'static str,
    /// The machine it is about.
    pub machine: Option<String>,
    /// What was asked.
    pub asked: Value,
    /// What came back.
    pub answered: Value,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it failed.
    pub problem: Option<String>,
    /// The last words of the machine's console; only after a failure.
    pub console: Vec<String>,
    /// Seconds from the run's beginning to the probe's.
    pub at: f64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Report {
    /// Whether everything is as it must be.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.not_run == 0
    }

    /// 0 when everything passed, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_good())
    }

    /// Counts the verdicts.
    pub fn count(&mut self) {
        let count = |verdict| {
            self.probes
                .iter()
                .filter(|probe| probe.verdict == verdict)
                .count()
        };
        (self.passed, self.failed, self.not_run) = (
            count(Verdict::Passed),
            count(Verdict::Failed),
            count(Verdict::NotRun),
        );
    }

    /// The JSON form, with a closing line break.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// What is said before the first probe.
    pub fn opening(&self) -> String {
        format!(
            "{}: {}\n  {}: {}; limits times {}",
            self.scenario,
            self.summary,
            self.acceleration.choice.accel.name(),
            self.acceleration.choice.reason,
            self.acceleration.deadline_factor
        )
    }

    /// What is said after the last probe: figures, where the logs are, counts.
    pub fn closing(&self) -> String {
        let mut lines = Vec::new();
        for machine in &self.machines {
            for (index, boot) in machine.boots.iter().enumerate() {
                let timings: Vec<String> = boot
                    .timings
                    .iter()
                    .map(|(event, value)| format!("{} {value:.1}", event.replace('_', " ")))
                    .collect();
                if !timings.is_empty() {
                    let number = index + 1;
                    lines.push(format!(
                        "  {} boot {number}: {}",
                        machine.name,
                        timings.join(", ")
                    ));
                }
            }
        }
        if let Some(folder) = &self.folder {
            lines.push(format!("  logs and disks: {folder}"));
        }
        let not_run = match self.not_run {
            0 => String::new(),
            count => format!(", {count} not run"),
        };
        let seconds = self.seconds;
        lines.push(format!("{} took {seconds:.0} s", self.scenario));
        lines.push(format!(
            "{} passed, {} failed{not_run}",
            self.passed, self.failed
        ));
        lines.join("\n")
    }

    /// The whole text form.
    pub fn to_text(&self) -> String {
        let probes: Vec<String> = self.probes.iter().map(ToString::to_string).collect();
        format!(
            "{}\n{}\n{}\n",
            self.opening(),
            probes.join("\n"),
            self.closing()
        )
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.verdict {
            Verdict::Passed => '✓',
            Verdict::Failed => '✗',
            Verdict::NotRun => '-',
        };
        let (title, seconds) = (&self.title, self.seconds);
        write!(formatter, "  {sign} {title}")?;
        if self.verdict != Verdict::NotRun {
            write!(formatter, " ({seconds:.1} s)")?;
        }
        for line in self.problem.iter().flat_map(|problem| problem.lines()) {
            write!(formatter, "\n      {line}")?;
        }
        if !self.console.is_empty() {
            formatter.write_str("\n      the console's last words:")?;
            for line in &self.console {
                write!(formatter, "\n      | {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_test::qemu::Accel;

    fn probe(title: &str, verdict: Verdict, problem: Option<&str>) -> Probe {
        Probe {
            title: title.into(),
            kind: "run",
            machine: Some("db1".into()),
            asked: Value::Null,
            answered: Value::Null,
            verdict,
            problem: problem.map(str::to_owned),
            console: problem
                .map(|_| "last line".to_owned())
                .into_iter()
                .collect(),
            at: 0.0,
            seconds: 1.25,
        }
    }

    fn report() -> Report {
        let mut report = Report {
            schema: SCHEMA,
            scenario: "x".into(),
            summary: "It works".into(),
            started: "2026-01-01T00:00:00Z".into(),
            seconds: 12.3,
            acceleration: Acceleration {
                choice: Choice {
                    accel: Accel::Tcg,
                    reason: "because".into(),
                    one_processor: false,
                },
                deadline_factor: 5,
            },
            machines: vec![MachineReport {
                name: "db1".into(),
                image: "a.raw".into(),
                address: "10.0.2.15".into(),
                memory: 2048,
                cpus: 2,
                forward: [(13_000, 40_001)].into(),
                tampered: None,
                boots: vec![BootReport {
                    timings: [("agent_started".to_owned(), 20.04)].into(),
                    ..BootReport::default()
                }],
            }],
            probes: vec![
                probe("good", Verdict::Passed, None),
                probe("bad", Verdict::Failed, Some("one\ntwo")),
                probe("later", Verdict::NotRun, None),
            ],
            passed: 0,
            failed: 0,
            not_run: 0,
            folder: Some("/var/tmp/sf-boot-test-1".into()),
        };
        report.count();
        report
    }

    #[test]
    fn the_text_form() {
        insta::assert_snapshot!(report().to_text(), @"
        x: It works
          tcg: because; limits times 5
          ✓ good (1.2 s)
          ✗ bad (1.2 s)
              one
              two
              the console's last words:
              | last line
          - later
          db1 boot 1: agent started 20.0
          logs and disks: /var/tmp/sf-boot-test-1
        x took 12 s
        1 passed, 1 failed, 1 not run
        ");
    }

    #[test]
    fn the_json_form_has_every_probe() {
        let json: Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["acceleration"]["accel"], "tcg");
        assert_eq!(json["probes"][1]["verdict"], "failed");
        assert_eq!(json["probes"][2]["verdict"], "not_run");
        assert_eq!(json["machines"][0]["forward"]["13000"], 40_001);
        assert_eq!(report().exit_code(), 1);
    }
}
