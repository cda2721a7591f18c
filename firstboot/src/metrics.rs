//! The status as Prometheus metrics, in a file that `node_exporter`'s textfile
//! collector reads: `--collector.textfile.directory=/run/sf-firstboot`. The
//! agent serves nothing itself. Holds no secrets, as the status holds none.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::status::{State, Status};

/// The file's name, in the runtime folder.
pub const FILE: &str = "sf-firstboot.prom";

/// The text exposition format of what a run last said.
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let known = |value: &Option<String>| value.clone().unwrap_or_default();
    family(
        &mut text,
        "info",
        "What this node is; always 1.",
        &[(
            &[
                ("node", &known(&status.node)),
                ("role", &known(&status.role)),
                ("image", &known(&status.image_id)),
                ("image_version", &known(&status.image_version)),
                ("shakenfist_version", &known(&status.shakenfist_version)),
                ("debug", if status.debug { "true" } else { "false" }),
            ],
            1.0,
        )],
    );
    let named = State::ALL.map(|state| {
        let here = state == status.state;
        ([("state", state.name())], f64::from(u8::from(here)))
    });
    family(
        &mut text,
        "state",
        "1 for the state that the agent's run is in.",
        &named
            .each_ref()
            .map(|(labels, value)| (labels.as_slice(), *value)),
    );
    // A retry that is under way must not make a failure look gone.
    let ended = status.ended();
    if let Some((code, phase)) = ended
        .as_ref()
        .and_then(|ended| Some((ended.code.as_ref()?, &ended.phase)))
    {
        family(
            &mut text,
            "failure",
            "1 with the code of the failure that the last run ended with; absent when all is well.",
            &[(&[("code", code), ("phase", phase)], 1.0)],
        );
    }
    if let Some(exit) = ended.as_ref().map(|ended| ended.exit_code) {
        let about =
            "Exit code of the last run that ended: 0 well, 75 tried again, else an operator acts.";
        family(&mut text, "exit_code", about, &[(&[], exit.into())]);
    }
    family(
        &mut text,
        "attempts",
        "Runs in this boot, the current one included.",
        &[(&[], status.attempts.into())],
    );
    for (name, about, time) in [
        (
            "started_timestamp_seconds",
            "When the run began.",
            Some(&status.started_at),
        ),
        (
            "finished_timestamp_seconds",
            "When the last run that ended did.",
            ended.as_ref().and_then(|ended| ended.finished_at.as_ref()),
        ),
    ] {
        if let Some(seconds) = time.and_then(|time| unix(time)) {
            family(&mut text, name, about, &[(&[], seconds)]);
        }
    }
    let phases: Vec<_> = status
        .phases
        .iter()
        .map(|timed| ([("phase", timed.phase.as_str())], timed.seconds))
        .collect();
    let phases: Vec<_> = phases
        .iter()
        .map(|(labels, seconds)| (labels.as_slice(), *seconds))
        .collect();
    if !phases.is_empty() {
        let about = "How long each phase of the run has taken.";
        family(&mut text, "phase_seconds", about, &phases);
    }
    text
}

type Sample<'s> = (&'s [(&'s str, &'s str)], f64);

fn family(text: &mut String, name: &str, about: &str, samples: &[Sample<'_>]) {
    let mut write = |arguments: std::fmt::Arguments<'_>| {
        let line = text.write_fmt(arguments);
        // Writing to a String cannot fail.
        debug_assert!(line.is_ok());
    };
    write(format_args!("# HELP sf_firstboot_{name} {about}\n"));
    write(format_args!("# TYPE sf_firstboot_{name} gauge\n"));
    for (labels, value) in samples {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        write(format_args!("sf_firstboot_{name}{labels} {value}\n"));
    }
}

/// A label's value: backslash, quote and line break are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn unix(time: &str) -> Option<f64> {
    let time: Timestamp = time.parse().ok()?;
    Some(time.as_duration().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Timed;

    #[test]
    fn a_failed_node_and_why() {
        let status = Status {
            node: Some("db1.example.com".into()),
            role: Some("database-tier".into()),
            image_id: Some("sf-database-tier".into()),
            image_version: Some("0.7.2-1".into()),
            shakenfist_version: Some("0.7.2".into()),
            state: State::Failed,
            phase: "preflight".into(),
            attempts: 3,
            phases: vec![
                Timed {
                    phase: "discover".into(),
                    seconds: 0.004,
                },
                Timed {
                    phase: "preflight".into(),
                    seconds: 300.25,
                },
            ],
            exit_code: Some(75),
            code: Some("SF-DB-REFUSED".into()),
            started_at: "2026-11-23T03:00:00.000Z".into(),
            finished_at: Some("2026-11-23T03:05:00.500Z".into()),
            ..Status::default()
        };
        insta::assert_snapshot!(render(&status), @r#"
        # HELP sf_firstboot_info What this node is; always 1.
        # TYPE sf_firstboot_info gauge
        sf_firstboot_info{node="db1.example.com",role="database-tier",image="sf-database-tier",image_version="0.7.2-1",shakenfist_version="0.7.2",debug="false"} 1
        # HELP sf_firstboot_state 1 for the state that the agent's run is in.
        # TYPE sf_firstboot_state gauge
        sf_firstboot_state{state="running"} 0
        sf_firstboot_state{state="started"} 0
        sf_firstboot_state{state="ready"} 0
        sf_firstboot_state{state="failed"} 1
        # HELP sf_firstboot_failure 1 with the code of the failure that the last run ended with; absent when all is well.
        # TYPE sf_firstboot_failure gauge
        sf_firstboot_failure{code="SF-DB-REFUSED",phase="preflight"} 1
        # HELP sf_firstboot_exit_code Exit code of the last run that ended: 0 well, 75 tried again, else an operator acts.
        # TYPE sf_firstboot_exit_code gauge
        sf_firstboot_exit_code 75
        # HELP sf_firstboot_attempts Runs in this boot, the current one included.
        # TYPE sf_firstboot_attempts gauge
        sf_firstboot_attempts 3
        # HELP sf_firstboot_started_timestamp_seconds When the run began.
        # TYPE sf_firstboot_started_timestamp_seconds gauge
        sf_firstboot_started_timestamp_seconds 1795402800
        # HELP sf_firstboot_finished_timestamp_seconds When the last run that ended did.
        # TYPE sf_firstboot_finished_timestamp_seconds gauge
        sf_firstboot_finished_timestamp_seconds 1795403100.5
        # HELP sf_firstboot_phase_seconds How long each phase of the run has taken.
        # TYPE sf_firstboot_phase_seconds gauge
        sf_firstboot_phase_seconds{phase="discover"} 0.004
        sf_firstboot_phase_seconds{phase="preflight"} 300.25
        "#);
    }

    #[test]
    fn names_cannot_break_the_format() {
        let status = Status {
            node: Some("a\"b\\c\nd".into()),
            ..Status::default()
        };
        let text = render(&status);
        assert!(text.contains(r#"node="a\"b\\c\nd""#), "{text}");
        assert!(
            text.lines()
                .all(|line| line.starts_with("# ") || line.starts_with("sf_firstboot_"))
        );
    }
}
