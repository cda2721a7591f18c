//! Checks the server and the database, changes nothing, and reports everything
//! that is wrong at once. The rules are those that Shaken Fist itself checks
//! (MariaDB 10.11, `InnoDB`, utf8mb4) and what a bootstrap needs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use sf_contract::release::Schema;
use sf_contract::role::Role;
use std::sync::Arc;

use super::grants::{self, Account, Grants};
use super::promises;
use super::schema::{self, TableState};
use super::session::Session;
use super::trouble::SqlError;
use super::upkeep::{self, Standing};
use crate::codes;
use crate::failure::Failure;

/// The oldest MariaDB that Shaken Fist starts with.
const OLDEST: (u32, u32, u32) = (10, 11, 0);

/// What the node is going to need.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// The role of the node's image, which its daemons are those of.
    pub role: Role,
    /// Does it make tables and fill them, and not only write rows?
    pub bootstraps: bool,
    /// Who makes the cluster's tables.
    pub schema: &'a Schema,
    /// The version of each table that the release expects, where it is known.
    pub schema_versions: &'a BTreeMap<String, u32>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// Everything that is wrong; empty is good.
    pub findings: Vec<Failure>,
    /// `VERSION()` of the server.
    pub server_version: String,
    /// How the server is, and whether the connection is encrypted.
    pub standing: Standing,
    /// The tables that are there.
    pub tables: Arc<TableState>,
}

/// Runs all checks over one session. `Err` means that they could not be run.
pub async fn run(session: &mut Session, need: &Need<'_>) -> Result<Preflight, Failure> {
    let facts = facts(session).await.map_err(SqlError::into_failure)?;
    let tables = schema::state(session)
        .await
        .map_err(SqlError::into_failure)?;
    let (server, database) = (session.server().to_owned(), session.database().to_owned());
    let mut findings = Vec::new();
    findings.extend(judge_version(&server, &facts.version));
    findings.extend(judge_engine(&server, &facts.engine, &facts.enforced));
    findings.extend(judge_charset(
        &server,
        &database,
        &facts.charset,
        &facts.collation,
    ));
    let ungranted = judge_grants(&server, &database, &facts, need);
    let granted = ungranted.is_none();
    findings.extend(ungranted);
    if session.read_only() {
        findings.push(Failure::new(
            &codes::DB_READ_ONLY,
            format!("the database server {server} is read-only (read_only or innodb_read_only)"),
        ));
    }
    let standing = upkeep::look(session).await?;
    findings.extend(standing.not_synced());
    findings.extend(tables.misfit(session.at()));
    findings.extend(
        promises::without_transactions(session)
            .await
            .map_err(SqlError::into_failure)?,
    );
    // The others may not see them.
    if need.bootstraps && granted {
        findings.extend(
            promises::without_keys(session, &tables)
                .await
                .map_err(SqlError::into_failure)?,
        );
    }
    // The others may not see all tables, and wait for those who bootstrap anyway.
    if need.bootstraps {
        findings.extend(tables.waits_for_release(need.schema, session.at()));
    }
    // Only the tier's own daemon demands exact versions, whoever made the tables:
    // during an upgrade the other roles run beside a schema that is newer or older
    // than their image.
    if need.role.bootstraps() && tables.has("schema_versions") {
        findings.extend(versions(session, need).await?);
    }
    Ok(Preflight {
        findings,
        server_version: facts.version,
        standing,
        tables,
    })
}

/// Judges the versions of the release's tables, which are there.
pub async fn versions(session: &mut Session, need: &Need<'_>) -> Result<Vec<Failure>, Failure> {
    if need.schema_versions.is_empty() {
        return Ok(Vec::new());
    }
    let found = schema_versions(session)
        .await
        .map_err(SqlError::into_failure)?;
    let at = session.at();
    Ok(judge_schema(at, need.schema, need.schema_versions, &found))
}

/// Is this a server that none of the checks is made for? Asked where it refuses
/// what every other server takes.
pub(super) async fn wrong_version(session: &mut Session) -> Option<Failure> {
    let rows = session
        .rows(
            "reading the server's version",
            "SELECT CAST(VERSION() AS CHAR)",
            &[],
        )
        .await
        .ok()?;
    judge_version(session.server(), rows.first()?.text(0)?)
}

struct Facts {
    version: String,
    engine: String,
    /// The engine that every table gets, whatever is asked for; empty for none.
    enforced: String,
    charset: String,
    collation: String,
    account: Account,
    /// The database's name as the server writes it, in its grants too: with
    /// `lower_case_table_names` that is not how the DSN does.
    name: String,
    grants: Grants,
}

async fn facts(session: &mut Session) -> Result<Facts, SqlError> {
    let rows = session
        .rows(
            "reading the server's version and settings",
            "SELECT CAST(VERSION() AS CHAR), CAST(@@default_storage_engine AS CHAR), \
             CAST(@@character_set_database AS CHAR), CAST(@@collation_database AS CHAR), \
             CAST(CURRENT_USER() AS CHAR), CAST(DATABASE() AS CHAR), \
             CAST(@@enforce_storage_engine AS CHAR)",
            &[],
        )
        .await?;
    let cell = |index| {
        rows.first()
            .map(|row| row.string(index))
            .unwrap_or_default()
    };
    let lines = session
        .rows("reading the user's grants", "SHOW GRANTS", &[])
        .await?;
    Ok(Facts {
        version: cell(0),
        engine: cell(1),
        charset: cell(2),
        collation: cell(3),
        account: Account::parse(&cell(4)),
        name: cell(5),
        enforced: cell(6),
        grants: Grants::parse(lines.iter().filter_map(|row| row.text(0))),
    })
}

/// The versions of the release's tables, as its own command wrote them.
pub(crate) async fn schema_versions(
    session: &mut Session,
) -> Result<BTreeMap<String, u32>, SqlError> {
    let rows = session
        .rows(
            "reading the versions of the release's tables",
            "SELECT CAST(table_name AS CHAR), CAST(version AS CHAR) FROM schema_versions",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| Some((row.string(0), row.text(1)?.parse().ok()?)))
        .collect())
}

/// The release's daemons start on exactly the versions that they were built
/// for: upstream has no window.
pub(crate) fn judge_schema(
    at: &str,
    schema: &Schema,
    expected: &BTreeMap<String, u32>,
    found: &BTreeMap<String, u32>,
) -> Vec<Failure> {
    if expected.is_empty() {
        return Vec::new();
    }
    let version = |known: Option<&u32>| known.map_or("absent".to_owned(), u32::to_string);
    let (mut older, mut newer) = (Vec::new(), Vec::new());
    let tables: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    for table in tables {
        let (here, wanted) = (found.get(table), expected.get(table));
        let line = format!("{table} is {}, expected {}", version(here), version(wanted));
        match here.cmp(&wanted) {
            Ordering::Less => older.push(line),
            Ordering::Greater => newer.push(line),
            Ordering::Equal => {}
        }
    }
    let mut findings = Vec::new();
    if !newer.is_empty() {
        findings.push(Failure::new(
            &codes::DB_SCHEMA_NEW,
            format!(
                "tables in the database at {at} are newer than this image's release knows: {}",
                newer.join("; ")
            ),
        ));
    }
    if !older.is_empty() {
        let mut failure = Failure::new(
            &codes::DB_SCHEMA_OLD,
            format!(
                "tables in the database at {at} are older than this image's release needs: {}",
                older.join("; ")
            ),
        );
        if let Schema::Command { command, .. } = schema {
            failure = failure.remedy(format!(
                "A database-tier node of this release migrates them when it boots; the agent \
                 keeps looking. By hand, on one such node: {}",
                command.join(" ")
            ));
        }
        findings.push(failure);
    }
    findings
}

fn judge_version(server: &str, version: &str) -> Option<Failure> {
    if !version.to_ascii_lowercase().contains("mariadb") {
        return Some(
            Failure::new(
                &codes::DB_NOT_MARIADB,
                format!("the database server {server} is not MariaDB: its version is {version}"),
            )
            .value(version),
        );
    }
    let too_old = match parse_version(version) {
        Some(found) => found < OLDEST,
        // MariaDB without a readable number: nothing says that it is new enough.
        None => true,
    };
    too_old.then(|| {
        Failure::new(
            &codes::DB_TOO_OLD,
            format!("the database server {server} is MariaDB {version}, older than 10.11"),
        )
        .value(version)
    })
}

/// `10.11.6-MariaDB`, or `5.5.5-10.6.0-MariaDB` as servers behind old
/// replication and proxies say.
pub(super) fn parse_version(version: &str) -> Option<(u32, u32, u32)> {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let number = version.split('-').next()?;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

fn judge_engine(server: &str, default: &str, enforced: &str) -> Option<Failure> {
    let other = |engine: &str| !engine.eq_ignore_ascii_case("InnoDB");
    let (which, engine, remedy) = if other(default) {
        (
            "default",
            default,
            "Set default_storage_engine = InnoDB in the server's configuration, or at once: \
             SET GLOBAL default_storage_engine = 'InnoDB';",
        )
    } else if !enforced.is_empty() && other(enforced) {
        (
            "enforced",
            enforced,
            "Take enforce_storage_engine out of the server's configuration, or at once: \
             SET GLOBAL enforce_storage_engine = NULL;",
        )
    } else {
        return None;
    };
    Some(
        Failure::new(
            &codes::DB_ENGINE,
            format!("the {which} storage engine of the database server {server} is {engine}"),
        )
        .value(engine)
        .remedy(remedy),
    )
}

fn judge_charset(server: &str, database: &str, charset: &str, collation: &str) -> Option<Failure> {
    // Later servers know collations without a character set's name in front
    // (uca1400_ai_ci), which belong to the database's character set.
    let fits = collation.starts_with("utf8mb4_") || collation.starts_with("uca1400_");
    (charset != "utf8mb4" || !fits).then(|| {
        Failure::new(
            &codes::DB_CHARSET,
            format!(
                "the database {database} on {server} has character set {charset} and \
                 collation {collation}, not utf8mb4"
            ),
        )
        .value(format!("{charset}, {collation}"))
        .remedy(format!(
            "On the server: ALTER DATABASE `{database}` CHARACTER SET utf8mb4 \
             COLLATE utf8mb4_unicode_ci;"
        ))
    })
}

/// As many statements as are still pasted from a card.
const PASTED: usize = 4;

fn judge_grants(server: &str, database: &str, facts: &Facts, need: &Need<'_>) -> Option<Failure> {
    let missing = facts.grants.missing(
        &facts.name,
        &grants::needs(need.role, need.bootstraps, need.schema),
    );
    if missing.is_empty() {
        return None;
    }
    let statements = grants::statements(&facts.account, database, &missing);
    // The command knows the role alone, and not that this node leaves the
    // bootstrap to others: it would print more than is needed.
    let known = need.role.bootstraps() == need.bootstraps;
    let remedy = if known && statements.len() > PASTED {
        format!(
            "Run on the server, as an administrator, what `{}` prints.",
            facts.account.command(need.role.name(), database)
        )
    } else {
        format!("On the server: {}", statements.join(" "))
    };
    let each: Vec<String> = missing.iter().map(ToString::to_string).collect();
    // Where a privilege names several tables, commas alone would mix the two up.
    let between = if each.iter().any(|one| one.contains(" on ")) {
        "; "
    } else {
        ", "
    };
    Some(
        Failure::new(
            &codes::DB_GRANTS,
            format!(
                "the database user {} on {server} lacks privileges on {database} that a \
                 {} node needs: {}",
                facts.account,
                need.role,
                each.join(between)
            ),
        )
        .remedy(remedy),
    )
}

#[cfg(test)]
mod tests;
