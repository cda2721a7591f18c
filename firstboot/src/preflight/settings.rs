//! Checks of what the metadata becomes.

use super::{Context, Found};
use crate::codes;
use crate::configure::settings::{self, Cluster};
use crate::engine;
use crate::failure::Failure;

/// Linux's limit, without the closing zero byte.
const HOST_NAME_MAX: usize = 64;

/// Renders `/etc/sf/config` as far as it can be known, and throws it away.
pub(super) fn render(context: &Context<'_>) -> Found {
    let node = context.node;
    let metadata = node.metadata();
    let mut findings = settings::render(&node.image, metadata, Cluster::Unknown)
        .err()
        .unwrap_or_default();
    let name = &metadata.node.name;
    if name.len() > HOST_NAME_MAX {
        findings.push(
            Failure::new(
                &codes::CONFIG_VALUE,
                "node.name is too long for the kernel's host name",
            )
            .value(name)
            .source("metadata field node.name")
            .remedy(format!(
                "Choose a name of {HOST_NAME_MAX} characters at most."
            )),
        );
    }
    if !findings.is_empty() {
        return Found::Failed { findings };
    }
    if metadata.database.dsn.ssl_mode().demands_tls() && settings::gives_database(&node.image) {
        let plainly = "database.dsn demands TLS: this agent keeps to it, but Shaken Fist's own \
                    daemons, which get the credentials on this role, cannot speak it";
        tracing::warn!("{plainly}");
        return Found::noted(plainly);
    }
    Found::passed()
}

/// Makes the bootstrap's plan, and throws it away.
pub(super) fn plan(context: &Context<'_>) -> Found {
    if !engine::bootstraps(context.node) {
        return Found::skipped("this node does not bootstrap: it waits for the cluster");
    }
    Found::judged(context.node.plan().err().unwrap_or_default())
}
