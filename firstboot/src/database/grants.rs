//! What the database user may do, read from `SHOW GRANTS`, which includes the
//! privileges of the active role (`information_schema` leaves them out).

use std::collections::BTreeSet;

use sf_contract::release::Schema;
use sf_contract::role::Role;

use crate::claim;

/// A privilege that the agent needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// `SELECT`.
    pub(super) privilege: &'static str,
    /// Tables for which it does as well when not granted on the whole database;
    /// empty where only the whole database does.
    pub(super) tables: &'static [&'static str],
}

const fn everywhere(privilege: &'static str) -> Need {
    Need {
        privilege,
        tables: &[],
    }
}

/// Roles that bootstrap make tables and fill them.
const BOOTSTRAPPING: [Need; 6] = [
    everywhere("SELECT"),
    everywhere("INSERT"),
    everywhere("UPDATE"),
    everywhere("DELETE"),
    everywhere("CREATE"),
    // A foreign key needs it on the table that is referred to.
    everywhere("REFERENCES"),
];

/// A release that migrates its own tables changes them too.
const MIGRATING: [Need; 3] = [everywhere("ALTER"), everywhere("INDEX"), everywhere("DROP")];

/// Other roles read the cluster's state, keep their own row, bring a series in
/// and retire one, and give up a claim of an earlier role.
const OTHERS: [Need; 4] = [
    Need {
        privilege: "SELECT",
        tables: &[
            "bootstrap_claims",
            "bootstrap_nodes",
            "bootstrap_operations",
            "cluster_config",
            "cluster_series",
        ],
    },
    Need {
        privilege: "INSERT",
        tables: &["bootstrap_nodes", "cluster_series"],
    },
    Need {
        privilege: "UPDATE",
        tables: &["bootstrap_nodes"],
    },
    Need {
        privilege: "DELETE",
        tables: &["bootstrap_claims", "cluster_series"],
    },
];

/// Who claims a role writes the claim.
const CLAIMING: Need = Need {
    privilege: "INSERT",
    tables: &["bootstrap_claims", "bootstrap_nodes", "cluster_series"],
};

/// The tier's daemons start on exact versions of the tables, whoever makes them.
const VERSIONS: Need = Need {
    privilege: "SELECT",
    tables: &["schema_versions"],
};

/// Somebody at a desk looks at the whole record, frees what a node that is gone
/// has held, and leaves a record of that. A series is retired by the next node
/// that needs its slot, not from here.
const OPERATOR: [Need; 3] = [
    Need {
        privilege: "SELECT",
        tables: &[
            "bootstrap_claims",
            "bootstrap_events",
            "bootstrap_nodes",
            "bootstrap_operations",
            "cluster_series",
        ],
    },
    Need {
        privilege: "INSERT",
        tables: &["bootstrap_events"],
    },
    Need {
        privilege: "DELETE",
        tables: &["bootstrap_claims", "bootstrap_nodes"],
    },
];

/// What a node of `role` needs, which `bootstraps` or leaves that to others.
pub(super) fn needs(role: Role, bootstraps: bool, schema: &Schema) -> Vec<Need> {
    let released = matches!(schema, Schema::Command { .. });
    if bootstraps {
        let mut needs = BOOTSTRAPPING.to_vec();
        if released {
            needs.extend(MIGRATING);
        }
        return needs;
    }
    let mut needs = OTHERS.to_vec();
    if claim::claimed_by(role).is_some() {
        for need in &mut needs {
            if need.privilege == CLAIMING.privilege {
                *need = CLAIMING;
            }
        }
    }
    if released && role.bootstraps() {
        needs.push(VERSIONS);
    }
    needs
}

/// A privilege that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    privilege: &'static str,
    /// The tables that it is missing on; empty for the whole database.
    tables: Vec<&'static str>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.privilege)?;
        match self.tables.split_last() {
            None => Ok(()),
            Some((last, [])) => write!(formatter, " on {last}"),
            Some((last, others)) => write!(formatter, " on {} and {last}", others.join(", ")),
        }
    }
}

/// An account as the server knows it: `sf@10.%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    user: String,
    host: String,
}

impl Account {
    pub(super) fn new(user: &str, host: &str) -> Self {
        Self {
            user: user.into(),
            host: host.into(),
        }
    }

    /// As `CURRENT_USER()` says it.
    pub(super) fn parse(text: &str) -> Self {
        // Without a host it is the one that MariaDB assumes.
        let (user, host) = text.rsplit_once('@').unwrap_or((text, "%"));
        Self::new(user, host)
    }

    /// The command that prints what a role's account of this name needs.
    pub(super) fn command(&self, role: &str, database: &str) -> String {
        command(role, database, &self.user, &self.host)
    }
}

/// As a statement takes it: `'sf'@'10.%'`.
impl std::fmt::Display for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", quoted(&self.user), quoted(&self.host))
    }
}

/// A text as SQL takes it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The command that prints what to grant, as a shell takes it: without its host
/// it would be about another account.
pub(super) fn command(role: &str, database: &str, user: &str, host: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    format!(
        "sf-firstboot grants --role {role} --database {} --user {} --host {}",
        quoted(database),
        quoted(user),
        quoted(host)
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Global,
    Database(String),
    Table(String, String),
}

/// What `SHOW GRANTS` says.
#[derive(Debug, Default)]
pub(super) struct Grants {
    granted: Vec<(Scope, BTreeSet<String>)>,
}

impl Grants {
    /// Parses the lines. Lines about roles, procedures and proxies grant
    /// nothing that counts here. They also hold password hashes: never show them.
    pub(super) fn parse<'l>(lines: impl IntoIterator<Item = &'l str>) -> Self {
        Self {
            granted: lines.into_iter().filter_map(parse_line).collect(),
        }
    }

    /// The needed privileges that are not there, and where: what is granted for
    /// them must not reach further than what is needed.
    pub(super) fn missing(&self, database: &str, needs: &[Need]) -> Vec<Missing> {
        needs
            .iter()
            .filter_map(|need| {
                let lacks = |wanted: &&'static str| {
                    !self.has(
                        need.privilege,
                        |scope| matches!(scope, Scope::Table(d, t) if d == database && t == wanted),
                    )
                };
                let whole = self.has(need.privilege, |scope| match scope {
                    Scope::Global => true,
                    Scope::Database(pattern) => like(pattern, database),
                    Scope::Table(..) => false,
                });
                let tables: Vec<&'static str> = need.tables.iter().copied().filter(lacks).collect();
                if whole || (tables.is_empty() && !need.tables.is_empty()) {
                    return None;
                }
                Some(Missing {
                    privilege: need.privilege,
                    tables,
                })
            })
            .collect()
    }

    fn has(&self, privilege: &str, wanted: impl Fn(&Scope) -> bool) -> bool {
        self.granted.iter().any(|(scope, privileges)| {
            wanted(scope)
                && [privilege, "ALL PRIVILEGES", "ALL"]
                    .iter()
                    .any(|name| privileges.contains(*name))
        })
    }
}

fn parse_line(line: &str) -> Option<(Scope, BTreeSet<String>)> {
    let rest = line.trim().strip_prefix("GRANT ")?;
    let (privileges, rest) = split_privileges(rest)?;
    let scope = parse_scope(rest)?;
    Some((scope, privileges))
}

/// The privileges up to ` ON `; column lists in parentheses make a privilege
/// that does not count.
fn split_privileges(text: &str) -> Option<(BTreeSet<String>, &str)> {
    let mut privileges = BTreeSet::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (at, character) in text.char_indices() {
        let ends = depth == 0 && (character == ',' || text[at..].starts_with(" ON "));
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            // A quoted name before ON is a role: `GRANT r TO u`.
            '`' | '\'' | '"' if depth == 0 => return None,
            _ => {}
        }
        if ends {
            privileges.insert(text[start..at].trim().to_ascii_uppercase());
            if character != ',' {
                return Some((privileges, &text[at + 4..]));
            }
            start = at + 1;
        }
    }
    None
}

fn parse_scope(text: &str) -> Option<Scope> {
    let (database, rest) = name(text)?;
    let rest = rest.strip_prefix('.')?;
    let (table, rest) = name(rest)?;
    rest.starts_with(" TO ").then_some(match (database, table) {
        (None, None) => Scope::Global,
        (Some(database), None) => Scope::Database(database),
        (Some(database), Some(table)) => Scope::Table(database, table),
        (None, Some(_)) => return None,
    })
}

/// `*` or a name in backticks, with doubled backticks inside.
fn name(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(rest) = text.strip_prefix('*') {
        return Some((None, rest));
    }
    let mut rest = text.strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let end = rest.find('`')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('`') {
            Some(after) => {
                name.push('`');
                rest = after;
            }
            None => return Some((Some(name), rest)),
        }
    }
}

/// MariaDB's patterns for database names: `_` is any character, `%` any text,
/// a backslash makes the next one plain.
fn like(pattern: &str, text: &str) -> bool {
    enum Token {
        Any,
        One,
        Plain(char),
    }
    let mut chars = pattern.chars();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '%' => Token::Any,
            '_' => Token::One,
            '\\' => Token::Plain(chars.next().unwrap_or('\\')),
            plain => Token::Plain(plain),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut read) = (0, 0);
    // Where to go on when what follows the last % does not fit: with one
    // character more for that %. Earlier ones need no other try, so that many of
    // them cost no more than one.
    let mut retry = None;
    while read < text.len() {
        match (tokens.get(at), text.get(read)) {
            (Some(Token::Any), _) => {
                at += 1;
                retry = Some((at, read));
            }
            (Some(Token::One), _) => (at, read) = (at + 1, read + 1),
            (Some(Token::Plain(plain)), Some(c)) if plain == c => (at, read) = (at + 1, read + 1),
            _ => {
                let Some((behind, from)) = retry else {
                    return false;
                };
                (at, read) = (behind, from + 1);
                retry = Some((behind, from + 1));
            }
        }
    }
    tokens
        .iter()
        .skip(at)
        .all(|token| matches!(token, Token::Any))
}

/// Statements to paste for what is missing.
pub(super) fn statements(account: &Account, database: &str, missing: &[Missing]) -> Vec<String> {
    let wanted: Vec<(&str, &[&str])> = missing
        .iter()
        .map(|missing| (missing.privilege, missing.tables.as_slice()))
        .collect();
    to_grant(&wanted, database, account)
}

fn on_database(account: &Account, database: &str, privileges: &[&str]) -> String {
    let pattern = database.replace('_', "\\_").replace('%', "\\%");
    format!(
        "GRANT {} ON `{}`.* TO {account};",
        privileges.join(", "),
        pattern.replace('`', "``")
    )
}

/// Every statement that an account of a node of `role` needs, and nothing more.
pub fn least(role: Role, schema: &Schema, database: &str, user: &str, host: &str) -> Vec<String> {
    let needs = needs(role, role.bootstraps(), schema);
    to_grant(&wanted(&needs), database, &Account::new(user, host))
}

/// The same for somebody at a desk: `cluster status`, `forget`, `release-claim`.
pub fn operator(database: &str, user: &str, host: &str) -> Vec<String> {
    to_grant(&wanted(&OPERATOR), database, &Account::new(user, host))
}

fn wanted(needs: &[Need]) -> Vec<(&str, &[&str])> {
    needs
        .iter()
        .map(|need| (need.privilege, need.tables))
        .collect()
}

/// Privileges, each on its tables, or on the whole database where it has none.
///
/// A table that is not there yet can be granted on only together with CREATE,
/// which is taken back in the next statement: so that a fleet's accounts can be
/// made before its first boot.
fn to_grant(wanted: &[(&str, &[&str])], database: &str, account: &Account) -> Vec<String> {
    let whole: Vec<&str> = wanted
        .iter()
        .filter(|(_, tables)| tables.is_empty())
        .map(|(privilege, _)| *privilege)
        .collect();
    let mut statements = Vec::new();
    if !whole.is_empty() {
        statements.push(on_database(account, database, &whole));
    }
    let tables: BTreeSet<&str> = wanted
        .iter()
        .flat_map(|(_, tables)| *tables)
        .copied()
        .collect();
    let database = database.replace('`', "``");
    for table in tables {
        let privileges: Vec<&str> = wanted
            .iter()
            .filter(|(_, tables)| tables.contains(&table))
            .map(|(privilege, _)| *privilege)
            .collect();
        statements.push(format!(
            "GRANT CREATE, {} ON `{database}`.`{table}` TO {account};",
            privileges.join(", ")
        ));
        statements.push(format!(
            "REVOKE CREATE ON `{database}`.`{table}` FROM {account};"
        ));
    }
    statements
}

#[cfg(test)]
mod tests;
