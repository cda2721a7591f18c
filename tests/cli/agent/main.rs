//! The agent as a program: run in a folder that stands for a node, against a
//! real MariaDB, with a fake systemctl. What it prints, writes and returns is
//! what an operator, systemd and the boot tests see.

#[cfg(test)]
mod call_home;
#[cfg(test)]
mod change;
#[cfg(test)]
mod desk;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod ended;
#[cfg(test)]
mod fetched;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod forecast;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod maker;
#[cfg(test)]
mod network;
#[cfg(test)]
mod node;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod privileges;
#[cfg(test)]
#[expect(dead_code, reason = "the cluster's tests use all of it")]
#[path = "../../cluster/support/proxy.rs"]
mod proxy;
#[cfg(test)]
mod reference;
mod rehearsal;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod server;
