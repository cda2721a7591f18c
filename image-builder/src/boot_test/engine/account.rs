//! The account of a run so far: the engine's state as a [`Report`].

use serde_json::Value;

use super::Engine;
use crate::boot_test::machine::Machine;
use crate::boot_test::port;
use crate::boot_test::report::{Acceleration, BootReport, MachineReport, Report, SCHEMA};

impl Engine<'_> {
    pub(super) fn report(&self) -> Report {
        let machines = self
            .machines
            .iter()
            .map(|machine| self.machine_report(machine))
            .collect();
        Report {
            schema: SCHEMA,
            scenario: self.scenario.name.clone(),
            summary: self.scenario.summary.clone(),
            started: self.started.clone(),
            seconds: self.start.elapsed().as_secs_f64(),
            acceleration: Acceleration {
                choice: self.choice.clone(),
                deadline_factor: self.choice.accel.scale(),
            },
            machines,
            probes: self.probes.clone(),
            passed: 0,
            failed: 0,
            not_run: 0,
            folder: None,
        }
    }

    fn machine_report(&self, machine: &Machine) -> MachineReport {
        let boots = machine.boots().iter().enumerate().map(|(index, boot)| {
            let said = fs_err::read(boot.folder.join("result.jsonl")).unwrap_or_default();
            let log = port::Log::parse(&String::from_utf8_lossy(&said));
            let events = |events: Vec<Value>| {
                events
                    .iter()
                    .map(|event| self.secrets.mask_json(event))
                    .collect()
            };
            BootReport {
                retried: boot.retried.clone(),
                timings: self
                    .timings
                    .get(&(machine.spec.name.clone(), index + 1))
                    .cloned()
                    .unwrap_or_default(),
                phases: log
                    .phases
                    .iter()
                    .map(|phase| self.secrets.mask(phase))
                    .collect(),
                outcomes: events(
                    log.outcomes
                        .into_iter()
                        .map(|outcome| outcome.event)
                        .collect(),
                ),
                ready: events(log.ready),
            }
        });
        MachineReport {
            name: machine.spec.name.clone(),
            image: machine.image.file_name().unwrap_or_default().to_owned(),
            address: machine.spec.address.to_string(),
            memory: machine.spec.memory,
            cpus: machine.spec.cpus,
            forward: machine
                .forward
                .iter()
                .map(|(host, guest)| (*guest, *host))
                .collect(),
            tampered: machine.flipped.clone(),
            boots: boots.collect(),
        }
    }
}
