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
    Found::passed()
}

/// What of the DSN the agent keeps to, and Shaken Fist's own daemons have no
/// settings for.
pub(super) fn daemons(context: &Context<'_>) -> Found {
    if !settings::gives_database(&context.node.image) {
        return Found::skipped("this role's daemons get no credentials of the database");
    }
    Found::judged(cannot_do(&context.node.metadata().database.dsn))
}

fn cannot_do(dsn: &Dsn) -> Vec<Failure> {
    let finding = |code, what: String| Failure::new(code, what).value(dsn.to_string());
    let mut findings = Vec::new();
    if dsn.ssl_mode().demands_tls() {
        findings.push(finding(
            &codes::DB_DAEMON_TLS,
            format!(
                "database.dsn says ssl-mode={}: this agent keeps to it, but Shaken Fist's own \
                 daemons, which get the credentials on this role, cannot speak TLS",
                dsn.ssl_mode()
            ),
        ));
    }
    if dsn.hosts().len() > 1 {
        findings.push(finding(
            &codes::DB_DAEMON_HOST,
            format!(
                "database.dsn names {} servers: this agent tries them in turn, but Shaken Fist's \
                 own daemons take one and get the first, {}:{}",
                dsn.hosts().len(),
                dsn.host(),
                dsn.port()
            ),
        ));
    }
    findings
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
        let said = |dsn: &str| cannot_do(&dsn.parse().unwrap());
        let codes = |dsn: &str| said(dsn).iter().map(|one| one.code.id).collect::<Vec<_>>();
        assert!(said("mysql://sf:pw@db1/sf?ssl-mode=disabled").is_empty());
        let several = said("mysql://sf:pw@db1:3307,db2/sf?ssl-mode=disabled");
        let several = several[0].to_string();
        assert!(several.contains("names 2 servers") && several.contains("get the first, db1:3307"));
        let both = "mysql://sf:pw@db1,db2/sf?ssl-mode=verify-identity";
        assert_eq!(codes(both), ["SF-DB-DAEMON-TLS", "SF-DB-DAEMON-HOST"]);
        assert!(!format!("{:?}", said(both)).contains("pw"), "{both}");
    }
}
