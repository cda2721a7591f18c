//! Nodes that must not run while tables change: `sf-database`, which runs on
//! the database tier alone, starts only on exactly the versions that it was
//! built for. Under one of another release that runs on, the next start would
//! fail.

use sf_contract::role::Role;

use crate::codes;
use crate::database::{Session, SqlError};
use crate::failure::Failure;

/// A node of the database tier that has passed the gate with another release
/// and has not booted this one since.
#[derive(Debug)]
pub(crate) struct Other {
    fqdn: String,
    release: String,
}

/// Reads them; the agent's tables have to be there. A node that waits with
/// this release is none of them: it has left the trace of its boot in its row,
/// or two nodes of the tier would wait for each other.
pub(crate) async fn running(
    session: &mut Session,
    fqdn: &str,
    release: &str,
) -> Result<Vec<Other>, SqlError> {
    let rows = session
        .rows(
            "reading which release the database tier runs",
            "SELECT fqdn, release_version, role FROM bootstrap_nodes \
             WHERE series IS NOT NULL AND fqdn <> ? AND release_version <> ? ORDER BY fqdn",
            &[fqdn.into(), release.into()],
        )
        .await?;
    let served = |role: Option<&str>| {
        [Role::DatabaseTier, Role::SingleNode]
            .iter()
            .any(|known| role == Some(known.name()))
    };
    Ok(rows
        .iter()
        .filter(|row| served(row.text(2)))
        .map(|row| Other {
            fqdn: row.string(0),
            release: row.string(1),
        })
        .collect())
}

/// Why the tables cannot be changed now, if they cannot. `gap` is what is to
/// be changed.
pub(crate) fn failure(others: &[Other], release: &str, gap: &Failure) -> Option<Failure> {
    if others.is_empty() {
        return None;
    }
    let names: Vec<String> = others
        .iter()
        .map(|other| format!("{} ({})", other.fqdn, other.release))
        .collect();
    let mut failure = Failure::new(
        &codes::SCHEMA_NODES,
        format!(
            "the tables have to be made for release {release}, and nodes of the database tier run \
             another one: {}",
            names.join(", ")
        ),
    )
    .source("table bootstrap_nodes")
    .remedy(format!(
        "Boot an image of release {release} on {}; the last one to come makes the tables, and the \
         agent here keeps looking. A node that is off for good: `sf-firstboot cluster forget NODE`.",
        others
            .iter()
            .map(|other| other.fqdn.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    ))
    .next_command("sf-firstboot cluster status");
    failure.causes.push(gap.what.clone());
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_another_release_are_named_with_what_would_work() {
        let gap = Failure::new(&codes::DB_SCHEMA_OLD, "nodes is 3, expected 4");
        assert!(failure(&[], "0.8.1", &gap).is_none());
        let other = Other {
            fqdn: "db2.example.com".into(),
            release: "0.8.0".into(),
        };
        let failure = failure(&[other], "0.8.1", &gap).unwrap();
        assert!(failure.kind().retried());
        assert_eq!(
            failure.to_string(),
            "SF-SCHEMA-NODES: the tables have to be made for release 0.8.1, and nodes of the \
             database tier run another one: db2.example.com (0.8.0): nodes is 3, expected 4"
        );
        assert!(
            failure
                .remedy_text()
                .contains("release 0.8.1 on db2.example.com;")
        );
    }
}
