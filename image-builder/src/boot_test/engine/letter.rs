//! Steps about what nodes post to the run's letter box.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Engine, Seen};
use crate::boot_test::letters::{Letter, LetterBox};
use crate::boot_test::scenario::json_contains;
use crate::boot_test::search::Searcher;
use crate::boot_test::template::Template;

impl Engine<'_> {
    /// Waits for a letter that has `wanted` in it. No letter may hold a secret.
    pub(super) fn letter(&mut self, wanted: &Template, within: Option<Duration>) -> Seen {
        let text = match self.fill(wanted) {
            Ok(text) => text,
            Err(problem) => return Seen::bad(Value::Null, Value::Null, problem),
        };
        let wanted: Value = serde_json::from_str(&text).unwrap_or_default();
        let asked = json!({ "letter": wanted });
        self.until(within, |engine| {
            let letters = engine.letters.as_ref().map(LetterBox::letters);
            let letters = letters.unwrap_or_default();
            let bodies: Vec<Value> = letters.iter().map(body).collect();
            let answered = json!(bodies);
            let mut searcher = Searcher::new(engine.secrets.patterns());
            search(&letters, &mut searcher);
            let leak = searcher.findings(&[]).into_iter().next();
            let problem = if let Some(leak) = leak {
                Some(format!("{} ({}) is in a letter", leak.secret, leak.form))
            } else if bodies
                .iter()
                .any(|body| json_contains(&wanted, body).is_ok())
            {
                None
            } else {
                Some(
                    match bodies.last().map(|last| json_contains(&wanted, last)) {
                        Some(Err(problem)) => format!(
                            "no letter of {} says this; of the last one: {problem}",
                            bodies.len()
                        ),
                        _ => "no letter has come".to_owned(),
                    },
                )
            };
            Seen {
                asked: asked.clone(),
                answered,
                problem,
            }
        })
    }

    /// Looks for secrets in all letters so far.
    pub(super) fn search_letters(&self, searcher: &mut Searcher) {
        if let Some(letters) = &self.letters {
            search(&letters.letters(), searcher);
        }
    }
}

fn body(letter: &Letter) -> Value {
    serde_json::from_str(&letter.body).unwrap_or_else(|_| Value::String(letter.body.clone()))
}

/// The token is in the request's first line, where it belongs, and not in here.
fn search(letters: &[Letter], searcher: &mut Searcher) {
    for letter in letters {
        searcher.text("letter", &letter.headers.join("\n"));
        searcher.text("letter", &letter.body);
    }
}
