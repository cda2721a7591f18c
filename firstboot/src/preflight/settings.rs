//! Checks of what the metadata becomes.

use sf_contract::metadata::dsn::Dsn;

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
    if !settings::gives_database(&node.image) {
        return Found::passed();
    }
    let plainly = cannot_do(&metadata.database.dsn);
    if plainly.is_empty() {
        return Found::passed();
    }
    for text in &plainly {
        tracing::warn!("{text}");
    }
    Found::noted(plainly.join("; "))
}

/// What of the DSN the agent keeps to, and Shaken Fist's own daemons, which get
/// the credentials on this role, have no settings for.
fn cannot_do(dsn: &Dsn) -> Vec<String> {
    let mut plainly = Vec::new();
    if dsn.ssl_mode().demands_tls() {
        plainly.push(
            "database.dsn demands TLS: this agent keeps to it, but Shaken Fist's own daemons, \
             which get the credentials on this role, cannot speak it"
                .to_owned(),
        );
    }
    if dsn.hosts().len() > 1 {
        plainly.push(format!(
            "database.dsn names {} servers: this agent tries them in turn, but Shaken Fist's own \
             daemons take one and get the first, {}:{}; a load balancer's address in front of \
             them serves both",
            dsn.hosts().len(),
            dsn.host(),
            dsn.port()
        ));
    }
    plainly
}

/// Makes the bootstrap's plan, and throws it away.
pub(super) fn plan(context: &Context<'_>) -> Found {
    if !engine::bootstraps(context.node) {
        return Found::skipped("this node does not bootstrap: it waits for the cluster");
    }
    Found::judged(context.node.plan().err().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemons_cannot_do_is_said_plainly() {
        let said = |dsn: &str| cannot_do(&dsn.parse().unwrap()).join("; ");
        assert_eq!(said("mysql://sf:pw@db1/sf?ssl-mode=disabled"), "");
        let several = said("mysql://sf:pw@db1:3307,db2/sf?ssl-mode=disabled");
        assert!(several.contains("names 2 servers") && several.contains("get the first, db1:3307"));
        let both = said("mysql://sf:pw@db1,db2/sf?ssl-mode=verify-identity");
        assert!(
            both.contains("demands TLS") && both.contains("; database.dsn names"),
            "{both}"
        );
        assert!(!both.contains("pw"), "{both}");
    }
}
