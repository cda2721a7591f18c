//! Steps that wait for a machine: agent, readiness, power-off.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Engine, PAUSE, Seen, chain, unknown};
use crate::boot_test::console;
use crate::boot_test::port::{self, Outcome};
use crate::boot_test::scenario::AgentStep;

/// The exit code of a failure that the agent tries again by itself.
const TRANSIENT: i64 = 75;

impl Engine<'_> {
    /// Waits for a run of the agent that ends as wanted. A transient failure is
    /// waited out, as the node itself does; any other end decides at once.
    pub(super) fn agent(&mut self, step: &AgentStep, limit: Duration) -> Seen {
        let Some(index) = self.index(&step.vm) else {
            return unknown(&step.vm);
        };
        let asked = json!({
            "outcome": step.outcome,
            "exit_code": step.exit_code,
            "code": step.code,
            "first_try": step.first_try,
            "seconds": limit.as_secs(),
        });
        let card = match self.fill_all(&step.card) {
            Ok(card) => card,
            Err(problem) => return Seen::bad(asked, Value::Null, problem),
        };
        let deadline = Instant::now() + limit;
        let mut seen: Vec<Value> = Vec::new();
        loop {
            let alive = self.poll(index);
            for outcome in self.machines[index].new_outcomes() {
                self.machines[index].deal_with(1);
                let first = self.machines[index].dealt_with() == 1;
                seen.push(outcome.event.clone());
                match judge(step, &card, &outcome) {
                    Ok(()) if step.first_try && !first => {
                        let problem = "the agent had failed in this boot before";
                        return Seen::bad(asked, json!(seen), problem);
                    }
                    Ok(()) => return Seen::good(asked, json!(seen)),
                    // Also when another 75 is wanted: before the network is up
                    // there is no route, and nobody who could refuse.
                    Err(_) if outcome.exit_code == Some(TRANSIENT) && !step.first_try => {}
                    Err(problem) => return Seen::bad(asked, json!(seen), problem),
                }
            }
            if let Err(problem) = alive {
                return Seen::bad(asked, json!(seen), problem);
            }
            if Instant::now() > deadline {
                let log = self.machines[index].results();
                let problem = match (seen.last(), log.phases.last()) {
                    (Some(last), _) => format!("only this within {} s: {last}", limit.as_secs()),
                    (None, Some(phase)) => format!(
                        "no run of the agent has ended within {} s; its last phase is {phase}",
                        limit.as_secs()
                    ),
                    (None, None) => {
                        format!("nothing from the agent within {} s", limit.as_secs())
                    }
                };
                return Seen::bad(asked, json!(seen), problem);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits for the report that the daemons' probes passed.
    pub(super) fn ready(&mut self, vm: &str, daemons: &[String], limit: Duration) -> Seen {
        let Some(index) = self.index(vm) else {
            return unknown(vm);
        };
        let asked = json!({ "daemons": daemons, "seconds": limit.as_secs() });
        let deadline = Instant::now() + limit;
        loop {
            let alive = self.poll(index);
            if let Some(event) = self.machines[index].results().ready.last() {
                let there = port::daemons(event);
                let missing: Vec<&String> = daemons
                    .iter()
                    .filter(|daemon| !there.contains(daemon))
                    .collect();
                if missing.is_empty() {
                    return Seen::good(asked, event.clone());
                }
                let problem = format!("not among the daemons that are ready: {missing:?}");
                return Seen::bad(asked, event.clone(), problem);
            }
            if let Err(problem) = alive {
                return Seen::bad(asked, Value::Null, problem);
            }
            if Instant::now() > deadline {
                let seconds = limit.as_secs();
                let mut problem = format!("the daemons are not ready within {seconds} s");
                let card = self.machines[index]
                    .results()
                    .outcomes
                    .pop()
                    .and_then(|last| last.card);
                if let Some(card) = card {
                    problem = format!("{problem}; the last card:\n{card}");
                }
                let failed = self.ask(
                    index,
                    "systemctl --failed --plain --no-legend; systemctl list-jobs --no-legend",
                );
                return Seen::bad(asked, json!({ "failed_units_and_jobs": failed }), problem);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Looks at a machine a last time, shuts it down from inside and waits.
    pub(super) fn power_off(&mut self, vm: &str, checks: bool, limit: Duration) -> Seen {
        let Some(index) = self.index(vm) else {
            return unknown(vm);
        };
        let asked = json!({ "seconds": limit.as_secs() });
        if let Err(problem) = self.poll(index) {
            return Seen::bad(asked, Value::Null, problem);
        }
        if checks {
            self.check_health(index);
        }
        self.collect(index);
        let begin = Instant::now();
        let before = self.machines[index].console().len();
        if let Err(error) = self.machines[index].shut_down(limit) {
            self.machines[index].end();
            return Seen::bad(asked, Value::Null, chain(&error));
        }
        while begin.elapsed() < limit {
            if self.poll(index).is_err() {
                let seconds = begin.elapsed().as_secs_f64();
                let console = self.machines[index].console();
                // What came before has been judged by the checks above.
                let last = console.get(before..).unwrap_or_default();
                let trouble = console::kernel_trouble(last, self.is_emulated()).join("\n");
                let answered = json!({ "seconds": seconds });
                return if trouble.is_empty() {
                    Seen::good(asked, answered)
                } else {
                    Seen::bad(asked, answered, trouble)
                };
            }
            std::thread::sleep(PAUSE);
        }
        self.machines[index].end();
        let problem = format!("the machine is still on after {} s", limit.as_secs());
        Seen::bad(asked, Value::Null, problem)
    }
}

fn judge(step: &AgentStep, card: &[String], outcome: &Outcome) -> Result<(), String> {
    if outcome.outcome != step.outcome {
        let code = outcome.code.as_deref().unwrap_or("no code");
        let exit = outcome
            .exit_code
            .map_or_else(|| "none".to_owned(), |exit| exit.to_string());
        return Err(format!(
            "the agent ended as {} (exit code {exit}, {code})",
            outcome.outcome
        ));
    }
    if let Some(wanted) = step.exit_code
        && outcome.exit_code != Some(wanted)
    {
        return Err(format!(
            "the exit code is {:?} instead of {wanted}",
            outcome.exit_code
        ));
    }
    if let Some(wanted) = &step.code
        && outcome.code.as_ref() != Some(wanted)
    {
        let code = outcome.code.as_deref().unwrap_or("absent");
        return Err(format!("the failure code is {code} instead of {wanted}"));
    }
    let text = outcome.card.as_deref().unwrap_or_default();
    match card.iter().find(|wanted| !console::says(text, wanted)) {
        Some(wanted) => Err(format!(
            "the card does not say \"{wanted}\"; it says:\n{text}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_outcome_is_compared() {
        let step = AgentStep {
            vm: "db1".into(),
            outcome: "failed".into(),
            exit_code: Some(75),
            code: Some("SF-DB-REFUSED".into()),
            card: Vec::new(),
            first_try: false,
        };
        let good = Outcome {
            outcome: "failed".into(),
            exit_code: Some(75),
            code: Some("SF-DB-REFUSED".into()),
            card: Some("10.0.2.2:3306 refuses".into()),
            event: Value::Null,
        };
        assert_eq!(judge(&step, &["10.0.2.2:3306".into()], &good), Ok(()));
        assert!(
            judge(&step, &["10.0.2.3".into()], &good)
                .unwrap_err()
                .contains("does not say")
        );
        for bad in [
            Outcome {
                outcome: "ready".into(),
                ..good.clone()
            },
            Outcome {
                exit_code: Some(77),
                ..good.clone()
            },
            Outcome {
                code: None,
                ..good.clone()
            },
        ] {
            assert!(judge(&step, &[], &bad).is_err(), "{bad:?}");
        }
    }
}
