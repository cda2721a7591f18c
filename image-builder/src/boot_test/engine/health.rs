//! The built-in checks of a booted machine, and what is kept of it before it
//! goes: figures, journal, record of processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sf_contract::manifest::{IN_IMAGE, Manifest};

use super::{Engine, Seen, chain};
use crate::boot_test::console;

/// How long systemd may take to finish its jobs, on hardware.
const SETTLE: Duration = Duration::from_mins(1);

/// How long one question may take, on hardware.
const QUESTION: Duration = Duration::from_secs(20);

/// How long a machine may take to say that it is there, on hardware.
const PING: Duration = Duration::from_secs(3);

/// Units whose times are of interest, with the name of their figures.
const UNITS: [(&str, &str); 4] = [
    ("sf-firstboot.service", "agent"),
    ("sf.target", "daemons"),
    ("sf-ready.service", "ready"),
    ("multi-user.target", "multi_user"),
];

/// An image that boots for the first time counts its tries, until
/// boot-complete.target is reached; later boots have nothing to count.
const GOOD_BOOT: &str = "\
if [ -e /sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f ]
then systemctl is-active boot-complete.target || true
else echo 'not counted'
fi";

impl Engine<'_> {
    /// What holds for every node, whatever the scenario: on a healthy one all of
    /// it, on another one what does not depend on success.
    pub(super) fn check_health(&mut self, index: usize) {
        let spec = &self.machines[index].spec;
        let (healthy, tampered) = (spec.healthy, spec.tamper.is_some());
        if tampered {
            return;
        }
        if healthy {
            // `--wait` returns when the last job is done; the state itself is
            // the business of the checks that name what is wrong.
            let settle = "systemctl is-system-running --wait || true";
            self.check(
                index,
                "the system has settled",
                settle,
                self.scaled(SETTLE),
                |state| {
                    // Nothing is said when the time is over.
                    state
                        .trim()
                        .is_empty()
                        .then(|| "jobs are still waiting".to_owned())
                },
            );
            let failed = "systemctl --failed --plain --no-legend --no-pager";
            self.check(
                index,
                "no failed units",
                failed,
                self.scaled(QUESTION),
                nothing,
            );
            self.check(
                index,
                "this boot counts as good",
                GOOD_BOOT,
                self.scaled(QUESTION),
                |output| {
                    let state = output.trim();
                    (state != "active" && state != "not counted")
                        .then(|| format!("boot-complete.target is {state}"))
                },
            );
            let initrd = "journalctl -b -o cat --no-pager _PID=1 + _TRANSPORT=kernel | \
                          sed '/Switching root\\./q' | grep 'Failed with result' || true";
            let title = "no failed units in the initrd";
            self.check(index, title, initrd, self.scaled(QUESTION), nothing);
        }
        if healthy || self.machines[index].answers() {
            let cycles = "journalctl -b -o cat --no-pager -g 'ordering cycle' || true";
            self.check(
                index,
                "no ordering cycle",
                cycles,
                self.scaled(QUESTION),
                |output| {
                    // journalctl says "-- No entries --" on some versions.
                    let lines = console::ordering_cycles(output);
                    (!lines.is_empty()).then(|| lines.join("\n"))
                },
            );
            let emulated = self.is_emulated();
            let kernel = "journalctl -k -b -o cat --no-pager || true";
            self.check(
                index,
                "no kernel trouble",
                kernel,
                self.scaled(QUESTION),
                |log| trouble(log, emulated),
            );
        } else {
            let begin = Instant::now();
            let log = self.machines[index].console();
            let problem = trouble(&log, self.is_emulated());
            let seen = Seen {
                asked: json!("console"),
                answered: Value::Null,
                problem,
            };
            self.record_check(index, "no kernel trouble", begin, seen);
        }
        if healthy {
            self.check_manifest(index);
        }
    }

    fn check(
        &mut self,
        index: usize,
        title: &str,
        script: &str,
        limit: Duration,
        judge: impl FnOnce(&str) -> Option<String>,
    ) {
        let begin = Instant::now();
        let asked = json!({ "script": script });
        let seen = match self.machines[index].run(script, limit) {
            Err(error) => Seen::bad(asked, Value::Null, chain(&error)),
            Ok(answer) => {
                let problem = judge(&answer.output);
                // The kernel's whole log would bury the rest.
                let output: String = answer.output.chars().take(2000).collect();
                Seen {
                    asked,
                    answered: json!({ "exit": answer.exit, "output": output }),
                    problem,
                }
            }
        };
        self.record_check(index, title, begin, seen);
    }

    fn record_check(&mut self, index: usize, title: &str, begin: Instant, seen: Seen) {
        let name = self.machines[index].spec.name.clone();
        self.record(
            &format!("{name}: {title}"),
            "check",
            Some(name),
            begin,
            seen,
        );
    }

    /// The manifest inside must be the one outside, less what cannot be known
    /// inside. An image without a manifest beside it is somebody's experiment.
    fn check_manifest(&mut self, index: usize) {
        let begin = Instant::now();
        let image = &self.machines[index].image;
        let Some(beside) = image.parent().map(|folder| folder.join("manifest.json")) else {
            return;
        };
        let Ok(outside) = fs_err::read_to_string(&beside) else {
            return;
        };
        let limit = self.scaled(QUESTION);
        let asked = json!({ "inside": IN_IMAGE });
        let seen = match self.machines[index].run(&format!("cat {IN_IMAGE}"), limit) {
            Err(error) => Seen::bad(asked, Value::Null, chain(&error)),
            Ok(answer) => {
                let problem = same_manifest(&outside, &answer.output).err();
                Seen {
                    asked,
                    answered: json!({ "exit": answer.exit }),
                    problem,
                }
            }
        };
        self.record_check(index, "the manifest inside is the one outside", begin, seen);
    }

    /// Keeps what a machine knows before it goes off.
    pub(super) fn collect(&mut self, index: usize) {
        let limit = self.scaled(PING);
        // One that hangs would take the time of every question.
        if !self.machines[index].answers() || self.machines[index].run("true", limit).is_err() {
            return;
        }
        let name = self.machines[index].spec.name.clone();
        let number = self.machines[index].boots().len();
        let figures = self.ask(index, &timing_script());
        self.timings.insert((name, number), timings(&figures));
        let Some(folder) = self.machines[index]
            .boots()
            .last()
            .map(|boot| boot.folder.clone())
        else {
            return;
        };
        let mut keep = vec![("journal.log", "journalctl -b -o short-monotonic --no-pager")];
        if self.scenario.searches(&self.machines[index].spec.name) {
            keep.push(("processes", "cat /run/sf-boot-test/processes"));
            keep.push(("journal.export", "journalctl -b -a -o export --no-pager"));
        }
        for (file, script) in keep {
            let text = self.ask(index, script);
            // The search step says so when a record is missing.
            let _ = fs_err::write(folder.join(file), text);
        }
    }
}

fn nothing(output: &str) -> Option<String> {
    let output = output.trim();
    (!output.is_empty()).then(|| output.to_owned())
}

fn trouble(log: &str, emulated: bool) -> Option<String> {
    let lines = console::kernel_trouble(log, emulated);
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn same_manifest(outside: &str, inside: &str) -> Result<(), String> {
    let outside = Manifest::parse(outside).map_err(|error| format!("outside: {error}"))?;
    let inside = Manifest::parse(inside).map_err(|error| format!("inside: {error}"))?;
    if outside.without_digests() == inside {
        Ok(())
    } else {
        Err(format!(
            "they differ; inside: {}",
            inside
                .to_canonical_json()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        ))
    }
}

fn timing_script() -> String {
    let manager = "systemctl show -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic";
    let units = UNITS.map(|(unit, _)| {
        format!(
            "echo; systemctl show {unit} -p Id -p ExecMainStartTimestampMonotonic \
             -p ExecMainExitTimestampMonotonic -p ActiveEnterTimestampMonotonic \
             -p MemoryPeak -p CPUUsageNSec"
        )
    });
    format!("{manager}\n{}", units.join("\n"))
}

/// Figures from the answer to [`timing_script`]: seconds since the kernel
/// started, seconds of work, MiB.
fn timings(text: &str) -> BTreeMap<String, f64> {
    let mut timings = BTreeMap::new();
    for block in text.split("\n\n") {
        let values: BTreeMap<&str, &str> = block
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .collect();
        // 0 and "[not set]" both mean that it has not happened.
        let number = |key: &str| {
            values
                .get(key)
                .and_then(|value| value.parse::<f64>().ok())
                .filter(|value| *value > 0.0 && *value < 1e18)
        };
        let mut put = |name: String, value: Option<f64>| {
            if let Some(value) = value {
                timings.insert(name, (value * 1000.0).round() / 1000.0);
            }
        };
        let seconds = |key: &str| number(key).map(|microseconds| microseconds / 1e6);
        let Some(id) = values.get("Id") else {
            put(
                "userspace_started".to_owned(),
                seconds("UserspaceTimestampMonotonic"),
            );
            put(
                "boot_finished".to_owned(),
                seconds("FinishTimestampMonotonic"),
            );
            continue;
        };
        let Some((_, name)) = UNITS.into_iter().find(|(unit, _)| unit == id) else {
            continue;
        };
        let started = seconds("ExecMainStartTimestampMonotonic");
        let ended = seconds("ExecMainExitTimestampMonotonic");
        match name {
            "agent" => {
                put("agent_started".to_owned(), started);
                put(
                    "agent_took".to_owned(),
                    started.zip(ended).map(|(start, end)| end - start),
                );
                put(
                    "agent_cpu".to_owned(),
                    number("CPUUsageNSec").map(|nanoseconds| nanoseconds / 1e9),
                );
                put(
                    "agent_memory_mib".to_owned(),
                    number("MemoryPeak").map(|bytes| bytes / 1_048_576.0),
                );
            }
            "ready" => put(
                "daemons_ready".to_owned(),
                ended.or_else(|| seconds("ActiveEnterTimestampMonotonic")),
            ),
            "daemons" => put(
                "daemons_started".to_owned(),
                seconds("ActiveEnterTimestampMonotonic"),
            ),
            _ => put(
                "multi_user".to_owned(),
                seconds("ActiveEnterTimestampMonotonic"),
            ),
        }
    }
    timings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_systemds_answers() {
        let text = "UserspaceTimestampMonotonic=5000000\nFinishTimestampMonotonic=0\n\n\
            Id=sf-firstboot.service\nExecMainStartTimestampMonotonic=20000000\n\
            ExecMainExitTimestampMonotonic=21500000\nMemoryPeak=8388608\nCPUUsageNSec=[not set]\n\n\
            Id=sf-ready.service\nExecMainExitTimestampMonotonic=40250000\n";
        let figures = timings(text);
        let wanted = [
            ("agent_memory_mib", 8.0),
            ("agent_started", 20.0),
            ("agent_took", 1.5),
            ("daemons_ready", 40.25),
            ("userspace_started", 5.0),
        ];
        assert_eq!(
            figures,
            wanted.map(|(name, value)| (name.to_owned(), value)).into()
        );
    }
}
