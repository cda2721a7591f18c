//! External programs as data.
//!
//! Owns: the closed list of programs that the builder, the boot tests and the
//! agent may run ([`Tool`]), a command as a cloneable value ([`Cmd`]), the one
//! place that starts processes, and typed failures ([`Failure`]).
//!
//! Refuses: shells, globbing, and processes that outlive the one that started
//! them. A command runs in its own process group, dies with this process, and
//! when its leader has ended what is left of the group is killed.

mod cmd;
mod failure;
mod process;
mod quote;
mod run;
mod streams;
mod telling;
mod tool;

pub use cmd::{Cmd, Program, Sink};
pub use failure::Failure;
pub use process::Child;
pub use quote::quote;
pub use run::Output;
pub use tool::{Missing, Tool, missing};
