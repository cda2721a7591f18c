//! Steps that look: HTTP requests, scripts, the console.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Engine, Seen, chain, unknown};
use crate::boot_test::console;
use crate::boot_test::http;
use crate::boot_test::scenario::{Output, RequestStep, json_contains};
use crate::boot_test::template::Template;

/// How long one HTTP request or script may take on hardware.
const ONE_TRY: Duration = Duration::from_secs(15);

/// Pause between two tries.
const TRY_PAUSE: Duration = Duration::from_secs(1);

impl Engine<'_> {
    /// Looks until it is as wanted or `within`, scaled, is over; once without.
    pub(super) fn until(
        &mut self,
        within: Option<Duration>,
        mut look: impl FnMut(&mut Self) -> Seen,
    ) -> Seen {
        let deadline = Instant::now() + self.scaled(within.unwrap_or_default());
        loop {
            let seen = look(self);
            if seen.problem.is_none() || Instant::now() >= deadline {
                return seen;
            }
            // A machine that is started again by itself must be noticed here too.
            if !self.machines.is_empty() {
                let _ = self.poll(0);
            }
            std::thread::sleep(TRY_PAUSE);
        }
    }

    pub(super) fn request(&mut self, step: &RequestStep, within: Option<Duration>) -> Seen {
        let Some(index) = self.index(&step.vm) else {
            return unknown(&step.vm);
        };
        let forward = &self.machines[index].forward;
        let Some((host, _)) = forward.iter().find(|(_, guest)| *guest == step.port) else {
            return Seen::bad(Value::Null, Value::Null, "the port is not forwarded");
        };
        let request = match self.filled_request(step, *host) {
            Ok(request) => request,
            Err(problem) => return Seen::bad(Value::Null, Value::Null, problem),
        };
        let wanted = match step
            .answer
            .as_ref()
            .map(|answer| self.fill(answer))
            .transpose()
        {
            Ok(wanted) => wanted.and_then(|text| serde_json::from_str::<Value>(&text).ok()),
            Err(problem) => return Seen::bad(Value::Null, Value::Null, problem),
        };
        let asked = json!({
            "method": request.method,
            "path": request.path,
            "port": step.port,
            "body": request.body.as_deref().map(|body| serde_json::from_str::<Value>(body).unwrap_or_default()),
            "headers": request.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "status": step.status,
            "answer": wanted,
            "count": step.count,
        });
        self.until(within, |engine| {
            let limit = engine.scaled(ONE_TRY);
            let answer = match http::send(&request, limit) {
                Ok(answer) => answer,
                Err(problem) => return Seen::bad(asked.clone(), Value::Null, problem),
            };
            // Before anything is recorded, so that what is captured is masked.
            let captured = engine.capture(step, &answer.body);
            let answered = json!({ "status": answer.status, "body": answer.body });
            match judge(step, wanted.as_ref(), &answer).and(captured) {
                Ok(()) => Seen::good(asked.clone(), answered),
                Err(problem) => Seen::bad(asked.clone(), answered, problem),
            }
        })
    }

    fn filled_request(&self, step: &RequestStep, port: u16) -> Result<http::Request, String> {
        let mut headers = Vec::new();
        for (name, value) in &step.headers {
            headers.push((name.clone(), self.fill(value)?));
        }
        Ok(http::Request {
            method: step.method.clone(),
            port,
            path: self.fill(&step.path)?,
            headers,
            body: step.body.as_ref().map(|body| self.fill(body)).transpose()?,
        })
    }

    fn capture(&mut self, step: &RequestStep, body: &Value) -> Result<(), String> {
        for (name, pointer) in &step.capture {
            let value = match body.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => return Err(format!("the answer has nothing at {pointer}")),
            };
            self.secrets.capture(&value);
            self.values.insert(format!("capture.{name}"), value);
        }
        Ok(())
    }

    pub(super) fn script(
        &mut self,
        vm: &str,
        script: &Template,
        expect: &Output,
        within: Option<Duration>,
    ) -> Seen {
        let Some(index) = self.index(vm) else {
            return unknown(vm);
        };
        let filled = (|| {
            let equals = expect
                .equals
                .as_ref()
                .map(|equals| self.fill(equals))
                .transpose()?;
            Ok::<_, String>((
                self.fill(script)?,
                self.fill_all(&expect.contains)?,
                self.fill_all(&expect.lacks)?,
                equals,
            ))
        })();
        let (script, contains, lacks, equals) = match filled {
            Ok(filled) => filled,
            Err(problem) => return Seen::bad(Value::Null, Value::Null, problem),
        };
        let asked = json!({ "script": script, "exit": expect.exit, "contains": contains, "lacks": lacks, "equals": equals });
        self.until(within, |engine| {
            let limit = engine.scaled(within.unwrap_or(ONE_TRY).max(ONE_TRY));
            let answer = match engine.machines[index].run(&script, limit) {
                Ok(answer) => answer,
                Err(error) => return Seen::bad(asked.clone(), Value::Null, chain(&error)),
            };
            let answered = json!({ "exit": answer.exit, "output": answer.output });
            let output = answer.output.as_str();
            let problem = if expect.exit.is_some_and(|exit| exit != answer.exit) {
                Some(format!(
                    "exit code {}; the output:\n{}",
                    answer.exit,
                    output.trim_end()
                ))
            } else if let Some(text) = contains.iter().find(|text| !output.contains(*text)) {
                Some(format!(
                    "\"{text}\" is not in the output:\n{}",
                    output.trim_end()
                ))
            } else if let Some(text) = lacks.iter().find(|text| output.contains(*text)) {
                Some(format!(
                    "\"{text}\" is in the output:\n{}",
                    output.trim_end()
                ))
            } else if equals
                .as_ref()
                .is_some_and(|equals| equals.trim() != output.trim())
            {
                Some(format!("the output is:\n{}", output.trim_end()))
            } else {
                None
            };
            Seen {
                asked: asked.clone(),
                answered,
                problem,
            }
        })
    }

    /// The output of a script, or why there is none, for a failure's context.
    pub(super) fn ask(&mut self, index: usize, script: &str) -> String {
        if !self.machines[index].answers() {
            return "the inspection channel is not open".to_owned();
        }
        let limit = self.scaled(ONE_TRY);
        match self.machines[index].run(script, limit) {
            Ok(answer) => answer.output,
            Err(error) => error.to_string(),
        }
    }

    pub(super) fn console(
        &mut self,
        vm: &str,
        contains: &[Template],
        lacks: &[Template],
        never: &[String],
        within: Option<Duration>,
    ) -> Seen {
        let Some(index) = self.index(vm) else {
            return unknown(vm);
        };
        let (contains, lacks) = match (self.fill_all(contains), self.fill_all(lacks)) {
            (Ok(contains), Ok(lacks)) => (contains, lacks),
            (Err(problem), _) | (_, Err(problem)) => {
                return Seen::bad(Value::Null, Value::Null, problem);
            }
        };
        let asked = json!({ "contains": contains, "lacks": lacks, "never": never });
        self.until(within, |engine| {
            let text = engine.machines[index].console();
            let missing = contains.iter().find(|wanted| !console::says(&text, wanted));
            let unwanted = lacks.iter().find(|unwanted| console::says(&text, unwanted));
            let log = engine.machines[index].results();
            let reported = log
                .outcomes
                .iter()
                .find(|outcome| never.contains(&outcome.outcome));
            let ready = never.iter().any(|never| never == "ready") && !log.ready.is_empty();
            let lines: Vec<&str> = contains
                .iter()
                .filter_map(|wanted| line_of(&text, wanted))
                .collect();
            let answered = json!({ "lines": lines, "outcomes": log.outcomes.len() });
            let problem = if let Some(text) = missing {
                Some(format!("the console does not say \"{text}\""))
            } else if let Some(text) = unwanted {
                Some(format!("the console says \"{text}\""))
            } else if let Some(outcome) = reported {
                Some(format!("the agent ended as {}", outcome.outcome))
            } else if ready {
                Some("the daemons were reported as ready".to_owned())
            } else {
                None
            };
            Seen {
                asked: asked.clone(),
                answered,
                problem,
            }
        })
    }
}

fn line_of<'t>(text: &'t str, wanted: &str) -> Option<&'t str> {
    text.lines()
        .find(|line| line.contains(wanted))
        .map(str::trim)
}

fn judge(step: &RequestStep, wanted: Option<&Value>, answer: &http::Answer) -> Result<(), String> {
    if answer.status != step.status {
        return Err(format!(
            "status {} instead of {}: {}",
            answer.status, step.status, answer.body
        ));
    }
    if let Some(wanted) = wanted {
        json_contains(wanted, &answer.body)?;
    }
    if let Some(count) = step.count {
        let items = answer.body.as_array().map(Vec::len);
        if items != Some(count) {
            let items = items.map_or_else(|| "no list".to_owned(), |items| items.to_string());
            return Err(format!("the answer has {items} items instead of {count}"));
        }
    }
    Ok(())
}
