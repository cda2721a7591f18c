//! The commands of one undisturbed run, and which part of the work each is of.

use std::collections::VecDeque;

use super::agent::OPERATIONS;
use super::proxy::Side;

/// A side of a command, which counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) number: usize,
    pub(crate) side: Side,
}

/// The checks, which come first, on a connection of their own.
pub(crate) const CHECKS: &str = "checks";
/// Reading what is there, and making the tables.
pub(crate) const TABLES: &str = "tables";
/// Ending the last connection.
pub(crate) const GOODBYE: &str = "good-bye";
/// Of no interest: nothing is struck there.
const ELSEWHERE: &str = "";

/// The commands of a run that bootstraps, or passes the gate.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) commands: Vec<String>,
    parts: Vec<&'static str>,
    /// The command that commits without a COMMIT, where there is one.
    alone: Option<usize>,
}

impl Script {
    /// From the log of a proxy.
    pub(crate) fn new(commands: Vec<String>) -> Self {
        // The first byte of a logged command says what it is; 1 ends a connection.
        let ends = |command: &String| command.starts_with("0x01");
        let checks = commands.iter().position(ends).unwrap();
        let tables = commands
            .iter()
            .rposition(|command| command.contains("CREATE TABLE"))
            .unwrap();
        let mut parts = Vec::new();
        while let Some(number) = (parts.len() < commands.len()).then_some(parts.len()) {
            if number <= checks {
                parts.push(CHECKS);
            } else if number <= tables {
                parts.push(TABLES);
            } else if ends(&commands[number]) {
                parts.push(GOODBYE);
            } else {
                // To the end of its transaction.
                let length = 1 + commands[number..]
                    .iter()
                    .position(|c| is_commit(c))
                    .unwrap_or(0);
                let own = &commands[number..number + length];
                let operation = OPERATIONS
                    .into_iter()
                    .find(|name| own.iter().any(|command| command.contains(name)))
                    .unwrap_or_else(|| panic!("no operation in {own:#?}"));
                parts.extend(std::iter::repeat_n(operation, length));
            }
        }
        Self {
            commands,
            parts,
            alone: None,
        }
    }

    /// The passage of the gate in a node's run: from the last reading of the
    /// versions, which the checks before do too, to the first word about progress.
    pub(crate) fn of_passage(way: &'static str, commands: Vec<String>) -> Self {
        let first = commands
            .iter()
            .rposition(|c| c.contains("SELECT CAST(slot"))
            .unwrap();
        let length = commands[first..]
            .iter()
            .position(|c| c.contains("UPDATE bootstrap_nodes SET phase"))
            .unwrap();
        let parts: Vec<_> = (0..commands.len())
            .map(|index| match index.checked_sub(first) {
                Some(offset) if offset < length => way,
                _ => ELSEWHERE,
            })
            .collect();
        let mut script = Self {
            commands,
            parts,
            alone: None,
        };
        if script.commits() == 0 {
            let executes = |number: &usize| script.commands[number - 1].starts_with("0x17");
            script.alone = script.numbers(way).rev().find(executes);
        }
        script
    }

    /// The part that a command is of.
    pub(crate) fn part(&self, number: usize) -> &'static str {
        self.parts[number - 1]
    }

    /// All parts, in their order.
    pub(crate) fn parts(&self) -> Vec<&'static str> {
        let mut parts = self.parts.clone();
        parts.retain(|part| *part != ELSEWHERE);
        parts.dedup();
        parts
    }

    /// How many commands commit.
    pub(crate) fn commits(&self) -> usize {
        let own = (1..=self.commands.len()).filter(|number| self.part(*number) != ELSEWHERE);
        own.filter(|number| is_commit(&self.commands[number - 1]))
            .count()
    }

    /// The commands of a part, by number.
    pub(crate) fn numbers(&self, part: &str) -> std::ops::RangeInclusive<usize> {
        let first = self.parts.iter().position(|p| *p == part).unwrap();
        let last = self.parts.iter().rposition(|p| *p == part).unwrap();
        first + 1..=last + 1
    }

    /// Both sides of every command that is of any part.
    pub(crate) fn every_point(&self) -> Vec<Point> {
        (1..=self.commands.len())
            .filter(|number| self.part(*number) != ELSEWHERE)
            .flat_map(|number| [Side::Before, Side::After].map(|side| Point { number, side }))
            .collect()
    }

    /// Where faults strike that are shared by many runs: both sides of every
    /// COMMIT, or of the statement that is one by itself, and the first command of
    /// every part; or of every command with `SF_EVERY_STEP=1`.
    pub(crate) fn points(&self) -> VecDeque<Point> {
        let every = every_step();
        let mut points = self.every_point();
        points.retain(|point| {
            let side = usize::from(point.side == Side::After);
            every
                || is_commit(&self.commands[point.number - 1])
                || self.alone == Some(point.number)
                // And one of every part.
                || (*self.numbers(self.part(point.number)).start() == point.number && side == 0)
        });
        points.into()
    }
}

fn is_commit(command: &str) -> bool {
    command.ends_with("COMMIT")
}

/// Is this the long run?
pub(crate) fn every_step() -> bool {
    std::env::var_os("SF_EVERY_STEP").is_some_and(|value| value == "1")
}
