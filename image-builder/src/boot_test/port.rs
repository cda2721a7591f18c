//! The lines that a machine writes to its result port: one JSON object each,
//! a group closed by `{"event":"END"}`.
//!
//! Tolerant in reading (unknown fields and events are kept as they are),
//! strict in meaning: what is not closed by END does not count.

use serde_json::Value;

/// The end of one run of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `ready`, `started` or `failed`.
    pub outcome: String,
    /// Exit code.
    pub exit_code: Option<i64>,
    /// Failure code (`SF-DB-REFUSED`).
    pub code: Option<String>,
    /// The failure card as shown on the console, when there was one in this run.
    pub card: Option<String>,
    /// The whole event.
    pub event: Value,
}

/// Everything that a port has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Closed runs of the agent, oldest first.
    pub outcomes: Vec<Outcome>,
    /// Closed reports that the daemons are ready: the event.
    pub ready: Vec<Value>,
    /// Phases in the order reported.
    pub phases: Vec<String>,
    /// Lines that are no JSON object.
    pub garbage: usize,
}

impl Log {
    /// Reads what the port has said; a last line without its end is left out.
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        let mut open: Option<Outcome> = None;
        let mut ready: Option<Value> = None;
        let mut card: Option<String> = None;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Ok(event @ Value::Object(_)) = serde_json::from_str::<Value>(line) else {
                log.garbage += 1;
                continue;
            };
            match event["event"].as_str() {
                Some("phase") => log
                    .phases
                    .extend(event["phase"].as_str().map(str::to_owned)),
                Some("card") => card = event["text"].as_str().map(str::to_owned),
                Some("outcome") => {
                    open = Some(Outcome {
                        outcome: event["outcome"].as_str().unwrap_or_default().to_owned(),
                        exit_code: event["exit_code"].as_i64(),
                        code: event["code"].as_str().map(str::to_owned),
                        card: None,
                        event,
                    });
                }
                Some("ready") => ready = Some(event),
                Some("END") => {
                    if let Some(mut outcome) = open.take() {
                        outcome.card = card.take();
                        log.outcomes.push(outcome);
                    }
                    log.ready.extend(ready.take());
                }
                _ => {}
            }
        }
        log
    }
}

/// Names of the daemons in a `ready` event.
pub fn daemons(ready: &Value) -> Vec<String> {
    let name = |item: &Value| {
        item.as_str()
            .or_else(|| item["name"].as_str())
            .map(str::to_owned)
    };
    ready["daemons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_once_closed() {
        let text = concat!(
            "boot noise\n",
            "{\"event\":\"phase\",\"phase\":\"preflight\"}\n",
            "{\"event\":\"card\",\"code\":\"SF-DB-REFUSED\",\"text\":\"the card\"}\n",
            "{\"event\":\"outcome\",\"outcome\":\"failed\",\"exit_code\":75,\"code\":\"SF-DB-REFUSED\"}\n",
            "{\"event\":\"END\"}\n",
            "{\"event\":\"outcome\",\"outcome\":\"started\",\"exit_code\":0,\"code\":null}\n",
        );
        let log = Log::parse(text);
        assert_eq!((log.garbage, log.outcomes.len()), (1, 1));
        assert_eq!(log.phases, ["preflight"]);
        assert_eq!(log.outcomes[0].exit_code, Some(75));
        assert_eq!(log.outcomes[0].card.as_deref(), Some("the card"));
        let log = Log::parse(&format!(
            "{text}{{\"event\":\"END\"}}\n{{\"event\":\"ready\",\"daemons\":[\"sf-api\"]}}\n{{\"event\":\"END\"}}\n{{\"ev"
        ));
        assert_eq!(log.outcomes.len(), 2);
        assert_eq!(log.outcomes[1].card, None);
        assert_eq!(log.outcomes[1].code, None);
        assert_eq!(daemons(&log.ready[0]), ["sf-api"]);
    }
}
