//! What the builder says while it works, and how long each phase took.
//!
//! Owns: one line per phase, with the elapsed time, on standard error. Refuses:
//! standard output, which is data.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How long one phase took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// Name of the phase, `tools tree`.
    pub phase: String,
    /// Seconds, wall clock.
    pub seconds: f64,
    /// True when its result was in the cache.
    pub cached: bool,
    /// Parts of the phase, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Timing>,
}

enum Mode {
    Terminal,
    Plain(Mutex<Box<dyn Write + Send>>),
}

/// Reports phases and collects their timings.
pub struct Progress {
    mode: Mode,
    timings: Mutex<Vec<Timing>>,
}

/// A phase that has begun. Dropped before [`Phase::done`], it counts as failed.
pub struct Phase<'a> {
    progress: &'a Progress,
    name: String,
    start: Instant,
    bar: Option<ProgressBar>,
    steps: Mutex<Vec<Timing>>,
    ended: bool,
}

impl Progress {
    /// Standard error: lines that are rewritten on a terminal, plain otherwise.
    pub fn stderr() -> Self {
        if io::stderr().is_terminal() {
            Self {
                mode: Mode::Terminal,
                timings: Mutex::default(),
            }
        } else {
            Self::plain(io::stderr())
        }
    }

    /// Plain lines to `to`.
    pub fn plain(to: impl Write + Send + 'static) -> Self {
        Self {
            mode: Mode::Plain(Mutex::new(Box::new(to))),
            timings: Mutex::default(),
        }
    }

    /// Begins a phase.
    pub fn phase(&self, name: &str) -> Phase<'_> {
        let bar = match &self.mode {
            Mode::Terminal => {
                let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
                let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Mode::Plain(_) => {
                self.line(&format!("{name} ..."));
                None
            }
        };
        Phase {
            progress: self,
            name: name.to_owned(),
            start: Instant::now(),
            bar,
            steps: Mutex::default(),
            ended: false,
        }
    }

    /// Says something that belongs to no phase.
    pub fn note(&self, text: &str) {
        self.line(text);
    }

    /// The timings of the phases that ended, in order.
    pub fn timings(&self) -> Vec<Timing> {
        self.timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn line(&self, text: &str) {
        // A closed standard error is no reason to fail a build.
        let _ = match &self.mode {
            Mode::Terminal => writeln!(io::stderr(), "{text}"),
            Mode::Plain(to) => {
                let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(to, "{text}").and_then(|()| to.flush())
            }
        };
    }
}

impl Phase<'_> {
    /// Shows what is going on inside the phase; on a terminal only.
    pub fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Adds the timing of a part.
    pub fn step(&self, name: &str, took: Duration) {
        let step = Timing {
            phase: name.to_owned(),
            seconds: rounded(took),
            cached: false,
            steps: Vec::new(),
        };
        self.steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(step);
    }

    /// Says a plain line while the phase goes on.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.progress.line(text),
        }
    }

    /// Ends the phase; `cached` says that its result was there.
    pub fn done(mut self, cached: bool) {
        self.ended = true;
        let took = self.start.elapsed();
        let how = if cached { " (cached)" } else { "" };
        self.finish(&format!("{}: {:.1} s{how}", self.name, took.as_secs_f64()));
        let steps = std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner));
        let timing = Timing {
            phase: self.name.clone(),
            seconds: rounded(took),
            cached,
            steps,
        };
        let timings = &self.progress.timings;
        timings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(timing);
    }

    fn finish(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.line(text);
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let took = self.start.elapsed().as_secs_f64();
            self.finish(&format!("{}: failed after {took:.1} s", self.name));
        }
    }
}

/// Milliseconds are enough to read, and keep JSON short.
fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn says_a_line_per_phase_and_keeps_timings() {
        let buffer = Buffer::default();
        let progress = Progress::plain(buffer.clone());
        let phase = progress.phase("tools tree");
        phase.detail("not shown");
        phase.step("Installing Debian", Duration::from_millis(1500));
        phase.done(true);
        drop(progress.phase("image"));
        let text = String::from_utf8(buffer.0.lock().expect("lock").clone()).expect("utf-8");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "tools tree ...");
        assert_eq!(lines[1], "tools tree: 0.0 s (cached)");
        assert_eq!(lines[3], "image: failed after 0.0 s");
        let timings = progress.timings();
        assert_eq!(timings.len(), 1);
        assert!(timings[0].cached);
        assert!((timings[0].steps[0].seconds - 1.5).abs() < 1e-9);
    }
}
