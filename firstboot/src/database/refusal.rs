//! Why a server did not let the agent in, as an operator meets it: one code
//! and one remedy for each cause.

use std::time::Instant;

use sf_contract::metadata::dsn::HostPort;

use super::connector::{Connector, Target};
use super::grants::{self, quoted};
use super::probe::{self, Greeting};
use super::tls::{self, Fault};
use super::trouble::{EXPIRED, NoConnection, SqlError, describe, number};
use crate::clock;
use crate::codes::{self, Code};
use crate::failure::Failure;
use crate::pki::{self, Flaw};

impl Connector {
    pub(super) fn failure(&self, code: &'static Code, what: String) -> Failure {
        Failure::new(code, what).value(self.dsn.to_string())
    }

    pub(super) async fn timed_out(&self, target: &Target<'_>, started: Instant) -> Failure {
        let name = target.name();
        let greeting = match target {
            Target::Host(host) if !self.hurried => probe::greeting(host).await,
            Target::Host(_) | Target::Socket(_) => None,
        };
        if let Some(Greeting::Other(said)) = &greeting {
            return self.not_mariadb(&name, said);
        }
        // A server that hangs accepts connections too (the kernel does), so
        // silence is no proof that it is something else.
        let silent = greeting == Some(Greeting::Silent);
        let detail = if silent {
            "; it accepts connections and says nothing"
        } else {
            ""
        };
        let mut failure = self.failure(
            &codes::DB_TIMEOUT,
            format!(
                "the database at {name} did not answer within {:.0} s{detail}",
                started.elapsed().as_secs_f64()
            ),
        );
        if silent {
            // Nor is it proof that it is the database.
            failure = failure.remedy(
                "Look whether MariaDB hangs (its load, its disk), or whether another program has \
                 that port (`ss -ltnp` on the server; host and port stand in database.dsn); the \
                 agent keeps trying.",
            );
        }
        failure
    }

    fn not_mariadb(&self, name: &str, said: &str) -> Failure {
        self.failure(
            &codes::DB_NOT_MARIADB,
            format!("what answers at {name} is not a MariaDB server: it says \"{said}\""),
        )
    }

    pub(super) async fn refused(&self, target: &Target<'_>, error: &sqlx::Error) -> Failure {
        let name = target.name();
        let (user, database) = (self.dsn.user(), self.dsn.name());
        let kind = NoConnection::of(error);
        if kind == NoConnection::Protocol
            && let Target::Host(host) = target
            && let Some(Greeting::Other(said)) = probe::greeting(host).await
        {
            return self.not_mariadb(&name, &said);
        }
        let failure = match kind {
            NoConnection::Refused => self.nobody_there(target),
            NoConnection::TimedOut => self.failure(
                &codes::DB_TIMEOUT,
                format!("the database at {name} did not answer"),
            ),
            NoConnection::Unreachable => self.unreachable(target).await,
            NoConnection::Closed => self.failure(
                &codes::DB_LOST,
                format!("the database at {name} closed the connection during the login"),
            ),
            NoConnection::Tls => self.no_tls(target, error).await,
            NoConnection::Password => self.password(&name, number(error)),
            NoConnection::Plugin => self
                .failure(
                    &codes::DB_AUTH_PLUGIN,
                    format!(
                        "the user {user} of the database at {name} logs in by a method \
                         that this agent does not speak (ed25519, PAM, GSSAPI and others)"
                    ),
                )
                .remedy(format!(
                    "On the server: ALTER USER {}@'HOST' IDENTIFIED VIA mysql_native_password \
                     USING PASSWORD('PASSWORD'); with the HOST that {} says.",
                    quoted(user),
                    hosts_of(user)
                )),
            NoConnection::Blocked => self.failure(
                &codes::DB_BLOCKED,
                format!("the database at {name} has blocked this node's address"),
            ),
            NoConnection::NoSuchDatabase => self
                .failure(
                    &codes::DB_MISSING,
                    format!("the database {database} does not exist on {name}"),
                )
                .remedy(format!(
                    "Correct the name in database.dsn. If it is right, on the server: CREATE \
                     DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; {}",
                    to_grant(
                        user,
                        database,
                        "HOST",
                        &format!(", HOST what {} says", hosts_of(user))
                    )
                )),
            NoConnection::NoAccessToDatabase => self.no_access(&name, &describe(error)),
            NoConnection::Full => self.failure(
                &codes::DB_BUSY,
                format!("the database at {name} has no connection to spare"),
            ),
            NoConnection::NotReady => self.failure(
                &codes::DB_NOT_READY,
                format!("the database at {name} takes no statements yet"),
            ),
            NoConnection::Protocol => self.failure(
                &codes::DB_NOT_MARIADB,
                format!("what answers at {name} does not talk like MariaDB"),
            ),
            NoConnection::Other => self.failure(
                &codes::DB_LOST,
                format!("the connection to the database at {name} failed"),
            ),
        };
        with_text(failure, error)
    }

    /// The server does not let the user in, and says why by its number alone.
    fn password(&self, name: &str, number: Option<u16>) -> Failure {
        let user = self.dsn.user();
        let what = match number {
            Some(EXPIRED | 1862) => {
                format!("the password of the user {user} of the database at {name} has expired")
            }
            Some(4151) => format!("the user {user} of the database at {name} is locked"),
            _ => format!("the database at {name} refuses the user {user}"),
        };
        self.failure(&codes::DB_AUTH, what)
            .remedy(self.let_in(number))
    }

    /// The user is let in, to change its password and for nothing else.
    pub(super) fn expired(&self, server: &str, error: SqlError) -> Failure {
        let mut failure = self.password(server, Some(EXPIRED));
        failure.causes = error.into_failure().causes;
        failure
    }

    /// What lets the user in that the server refuses with that error.
    fn let_in(&self, number: Option<u16>) -> String {
        let (plain, database) = (self.dsn.user(), self.dsn.name());
        let (user, hosts) = (quoted(plain), hosts_of(plain));
        match number {
            Some(EXPIRED | 1862) => format!(
                "On the server, with the password of database.dsn, or a new one in both places: \
                 ALTER USER {user}@'HOST' IDENTIFIED BY 'PASSWORD' PASSWORD EXPIRE NEVER; with the \
                 HOST that {hosts} says."
            ),
            Some(4151) => format!(
                "On the server: ALTER USER {user}@'HOST' ACCOUNT UNLOCK; with the HOST that \
                 {hosts} says."
            ),
            _ => format!(
                "Correct user and password in database.dsn. Or on the server: {hosts} says where it \
                 may log in from; with the HOST that fits this node: ALTER USER {user}@'HOST' \
                 IDENTIFIED BY 'PASSWORD'; where none fits: CREATE USER {user}@'HOST' IDENTIFIED BY \
                 'PASSWORD'; {} {}",
                to_grant(plain, database, "HOST", ""),
                if self.dsn.ssl_mode().demands_tls() {
                    format!(
                        "If SHOW CREATE USER {user}@'HOST'; says REQUIRE X509, ISSUER or SUBJECT: \
                         the agent shows the server no certificate; ALTER USER {user}@'HOST' \
                         REQUIRE SSL;"
                    )
                } else {
                    "If the server demands TLS of this user, write ssl-mode=required.".to_owned()
                }
            ),
        }
    }

    /// `said` is what the server said.
    fn no_access(&self, name: &str, said: &str) -> Failure {
        let (user, database) = (self.dsn.user(), self.dsn.name());
        let (host, which) = match denied_host(said) {
            Some(host) => (host, ""),
            None => ("HOST", ", HOST as the cause names it"),
        };
        self.failure(
            &codes::DB_GRANTS,
            format!(
                "the user {user} may not use the database {database} on {name}, or it does not exist"
            ),
        )
        .remedy(format!(
            "Correct the name in database.dsn. If it is right, on the server: CREATE DATABASE IF \
             NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; {}",
            to_grant(user, database, host, which)
        ))
    }

    fn nobody_there(&self, target: &Target<'_>) -> Failure {
        let name = target.name();
        match target {
            Target::Host(_) => self.failure(
                &codes::DB_REFUSED,
                format!("nothing accepts connections at the database's address {name}"),
            ),
            Target::Socket(_) => self
                .failure(
                    &codes::DB_REFUSED,
                    format!("nothing accepts connections at the database's socket {name}"),
                )
                .remedy(
                    "Start MariaDB on this machine, or correct socket= in database.dsn (on the server: \
                     SHOW VARIABLES LIKE 'socket'); the agent keeps trying.",
                ),
        }
    }

    /// No interface is up, or none leads there.
    async fn unreachable(&self, target: &Target<'_>) -> Failure {
        let address = match target {
            Target::Host(host) => tokio::net::lookup_host((host.host.as_str(), host.port))
                .await
                .ok()
                .and_then(|mut all| all.next())
                .map_or_else(|| host.host.clone(), |found| found.ip().to_string()),
            Target::Socket(path) => (*path).to_owned(),
        };
        self.failure(
            &codes::DB_UNREACHABLE,
            format!(
                "the network has no way to the database at {}: it is not up yet, or has no route to {address}",
                target.name()
            ),
        )
        .next_command(format!("ip route get {address}"))
    }

    async fn no_tls(&self, target: &Target<'_>, error: &sqlx::Error) -> Failure {
        let name = target.name();
        let fault = Fault::of(error);
        let Target::Host(host) = target else {
            return self.tls_failure(fault, &name, fault.text());
        };
        let shown = if fault.shows() {
            tls::shown_by(host).await
        } else {
            Vec::new()
        };
        let mut failure = match self.flaw(fault, &shown) {
            Some(flaw) if fault == Fault::Issuer && flaw.remedy.is_none() => {
                // Who is missing in the chain, in more words.
                let mut failure = self.tls_failure(fault, &name, fault.text());
                failure.causes.push(flaw.what);
                self.with_remedy(failure, fault, host, &shown)
            }
            Some(Flaw { what, remedy }) => {
                let fault = match fault {
                    Fault::Protocol => Fault::Other,
                    other => other,
                };
                let failure = self.tls_failure(
                    fault,
                    &name,
                    &format!("has an unusable certificate: {what}"),
                );
                match remedy {
                    Some(remedy) => failure.remedy(format!(
                        "{remedy} Put it in place of the server's ssl_cert (and ssl_key), and run FLUSH SSL."
                    )),
                    None => self.with_remedy(failure, fault, host, &shown),
                }
            }
            None => {
                let failure = self.tls_failure(fault, &name, fault.text());
                self.with_remedy(failure, fault, host, &shown)
            }
        };
        if fault == Fault::NotYetValid {
            failure = failure.next_command("timedatectl status");
        } else if fault != Fault::Absent {
            failure = failure.next_command(format!(
                "openssl s_client -starttls mysql -connect {name} </dev/null"
            ));
        }
        if let Some(shown) = shown.first() {
            failure.causes.push(format!("the server shows: {shown}"));
        }
        failure
    }

    fn tls_failure(&self, fault: Fault, name: &str, what: &str) -> Failure {
        self.failure(
            fault.code(),
            format!(
                "the database at {name} {what}, and the DSN says ssl-mode={}",
                self.dsn.ssl_mode()
            ),
        )
    }

    /// What is wrong with the certificate, where the handshake does not say it.
    fn flaw(&self, fault: Fault, shown: &[pki::Certificate]) -> Option<Flaw> {
        if !fault.is_vague() {
            return None;
        }
        let trusted = self.trusted();
        let trusted = trusted
            .as_ref()
            .map(|(all, field)| (all.as_slice(), field.as_str()));
        pki::flaw(shown, trusted, clock::now_seconds())
    }

    fn with_remedy(
        &self,
        failure: Failure,
        fault: Fault,
        host: &HostPort,
        shown: &[pki::Certificate],
    ) -> Failure {
        let mode = self.dsn.ssl_mode();
        let names = shown
            .first()
            .filter(|shown| !shown.names.is_empty())
            .map_or_else(|| "no name".to_owned(), |shown| shown.names.join(", "));
        let remedy = match fault {
            Fault::Absent => format!(
                "Set ssl_cert and ssl_key on the server, or write ssl-mode=preferred in \
                 database.dsn instead of {mode}, knowing that the password then crosses the \
                 network in a form that can be replayed."
            ),
            Fault::Issuer => format!(
                "The certificate must come from {}. MariaDB 11.4 and newer make one of their own \
                 when ssl_cert is not set, which nobody can verify.",
                self.authority()
            ),
            Fault::Name => format!(
                "The DSN calls it {}, the certificate is for {names}: write one of these in \
                 database.dsn, or have the certificate issued with subjectAltName for {}.",
                host.host, host.host
            ),
            Fault::Other if mode.verifies() => format!(
                "The server's certificate must come from {}, be in date and name {}. The server's \
                 error log may say more.",
                self.authority(),
                host.host
            ),
            Fault::Other => "See what the server's error log says of this handshake, and whether \
                             its certificate and key are sound (the next command)."
                .into(),
            Fault::Expired | Fault::NotYetValid | Fault::Protocol => return failure,
        };
        failure.remedy(remedy)
    }

    /// What of the server's certificate works today, and will not for long;
    /// `None` where nobody looks at its dates, or it shows none.
    pub async fn ageing(&self, server: &str) -> Option<Failure> {
        if !self.dsn.ssl_mode().verifies() {
            return None;
        }
        let host = self
            .dsn
            .hosts()
            .iter()
            .find(|host| host.to_string() == server)?;
        let shown = tls::shown_by(host).await;
        let now = clock::now_seconds();
        let own = shown.first().filter(|own| own.ends_soon(now))?;
        let failure = self.failure(
            &codes::DB_TLS_EXPIRING,
            format!(
                "the certificate of the database at {server} expires on {}: {} left",
                pki::day(own.not_after),
                pki::days_until(own.not_after, now)
            ),
        );
        Some(failure.next_command(format!(
            "openssl s_client -starttls mysql -connect {server} </dev/null"
        )))
    }
}

fn with_text(mut failure: Failure, error: &sqlx::Error) -> Failure {
    failure.causes.push(describe(error));
    failure
}

/// Of the command that prints what to grant, where it is not known for whom.
pub const WHICH_ROLE: &str = ", ROLE being this node's";

/// The command that prints what to grant: no user of ours needs all privileges.
/// `which` says what its host is, where that is not known.
fn to_grant(user: &str, database: &str, host: &str, which: &str) -> String {
    format!(
        "then run there what `{}` prints{WHICH_ROLE}{which}.",
        grants::command("ROLE", database, user, host)
    )
}

/// The statement that says from where a user may log in: that is half of an
/// account's name, and the server does not tell a stranger.
fn hosts_of(user: &str) -> String {
    format!("SELECT host FROM mysql.user WHERE user = {};", quoted(user))
}

/// The host of the account that was let in, and not into the database:
/// "Access denied for user 'sf'@'10.%' to database 'x'", in a server that
/// speaks English. (Of a refused password it names the client instead.)
fn denied_host(text: &str) -> Option<&str> {
    let (account, _) = text.split_once("' to database ")?;
    let (_, host) = account.rsplit_once("'@'")?;
    Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_account_is_read_where_the_server_says_it() {
        for (text, host) in [
            (
                "1044 (42000): Access denied for user 'hv'@'127.0.0.%' to database 'x'",
                Some("127.0.0.%"),
            ),
            (
                "Access denied for user 'a'@'b'@'%' to database ' to database '",
                Some("%"),
            ),
            (
                "Access denied for user 'hv'@'10.0.0.5' (using password: YES)",
                None,
            ),
            (
                "Benutzer 'hv'@'%' hat keine Zugriffsberechtigung für Datenbank 'x'",
                None,
            ),
        ] {
            assert_eq!(denied_host(text), host, "{text}");
        }
    }
}
