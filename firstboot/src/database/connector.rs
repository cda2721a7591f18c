//! From a DSN to a session: every host in its turn, every failure kept.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_contract::metadata::dsn::{Dsn, HostPort, SslMode};
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use super::backoff::Backoff;
use super::parking::Parking;
use super::probe::{self, Greeting};
use super::session::Session;
use super::trouble::{NoConnection, describe};
use crate::codes::{self, Code};
use crate::failure::Failure;

/// How long one host may take to answer when the metadata says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes sessions. Cheap to clone; holds the password and never shows it.
#[derive(Clone, Debug)]
pub struct Connector {
    dsn: Dsn,
    timeout: Duration,
    ca: Option<PathBuf>,
    parking: Option<Parking>,
}

/// One place to connect to.
enum Target<'d> {
    Host(&'d HostPort),
    Socket(&'d str),
}

impl Target<'_> {
    fn name(&self) -> String {
        match self {
            Self::Host(host) => host.to_string(),
            Self::Socket(path) => (*path).to_owned(),
        }
    }
}

impl Connector {
    /// A connector with a time limit of 10 s for each host and no CA of its own.
    pub fn new(dsn: Dsn) -> Self {
        Self {
            dsn,
            timeout: DEFAULT_TIMEOUT,
            ca: None,
            parking: None,
        }
    }

    /// Keeps one released session for whoever connects next, this connector's
    /// clones included; [`Self::hang_up`] ends it.
    #[must_use]
    pub fn keeping(mut self) -> Self {
        self.parking = Some(Parking::default());
        self
    }

    /// Ends the session that is kept, if any.
    pub async fn hang_up(&self) {
        if let Some(parking) = &self.parking {
            parking.clear().await;
        }
    }

    /// How long one host may take, look-up, TLS and login included.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A PEM file with the CA of the servers' certificates (`ssl-mode=verify-ca`
    /// and `verify-identity`); the public CAs count as well.
    #[must_use]
    pub fn ca(mut self, ca: impl Into<PathBuf>) -> Self {
        self.ca = Some(ca.into());
        self
    }

    /// The DSN.
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// One round over all hosts. A server that takes no writes is used only
    /// when no other one answers.
    ///
    /// When none answers, the failure that calls for the operator leads (a
    /// wrong password on a server that is up outweighs one that is down), and
    /// the others are its causes.
    pub async fn connect(&self) -> Result<Session, Failure> {
        if let Some(parking) = &self.parking
            && let Some(session) = parking.take().await
        {
            return Ok(session);
        }
        let mut failures = Vec::new();
        let mut read_only = None;
        for target in self.targets() {
            match self.connect_to(&target).await {
                Ok(session) if session.read_only() => {
                    read_only.get_or_insert(session);
                }
                Ok(session) => return Ok(session),
                Err(failure) => failures.push(failure),
            }
        }
        read_only.ok_or_else(|| lead(failures))
    }

    /// Connects, and tries again until `deadline` while failures are transient;
    /// `tell` hears about each new reason to wait.
    pub async fn connect_until(
        &self,
        deadline: Instant,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Session, Failure> {
        let mut backoff = Backoff::for_connections(deadline);
        let mut told = String::new();
        loop {
            let failure = match self.connect().await {
                Ok(session) => return Ok(session),
                Err(failure) if !failure.kind().retried() => return Err(failure),
                Err(failure) => failure,
            };
            if told != failure.what {
                told.clone_from(&failure.what);
                tell(&format!("waiting for the database: {told}"));
            }
            if !backoff.pause().await {
                return Err(failure);
            }
        }
    }

    fn targets(&self) -> Vec<Target<'_>> {
        match self.dsn.socket() {
            Some(path) => vec![Target::Socket(path)],
            None => self.dsn.hosts().iter().map(Target::Host).collect(),
        }
    }

    async fn connect_to(&self, target: &Target<'_>) -> Result<Session, Failure> {
        let started = Instant::now();
        match tokio::time::timeout(self.timeout, self.attempt(target)).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(target, started).await),
        }
    }

    async fn attempt(&self, target: &Target<'_>) -> Result<Session, Failure> {
        if let Target::Host(host) = target {
            self.resolve(host).await?;
        }
        let options = self.options(target)?;
        let connection = match options.connect().await {
            Ok(connection) => connection,
            Err(error) => return Err(self.refused(target, &error).await),
        };
        let mut session = Session::new(connection, target.name(), self.dsn.user(), self.dsn.name());
        session.home.clone_from(&self.parking);
        session
            .read_causally()
            .await
            .map_err(super::SqlError::into_failure)?;
        session
            .set_up()
            .await
            .map_err(super::SqlError::into_failure)?;
        Ok(session)
    }

    async fn resolve(&self, host: &HostPort) -> Result<(), Failure> {
        if host.host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        match tokio::net::lookup_host((host.host.as_str(), host.port)).await {
            Ok(mut addresses) => addresses
                .next()
                .map(drop)
                .ok_or_else(|| self.unresolved(host)),
            Err(error) => Err(self.unresolved(host).cause(&error)),
        }
    }

    fn unresolved(&self, host: &HostPort) -> Failure {
        let remedy = format!(
            "Check the name in database.dsn and this node's name servers: resolvectl query {}. \
             DNS may only be late, so the agent keeps trying.",
            host.host
        );
        self.failure(
            &codes::DB_RESOLVE,
            format!("the database host {} does not resolve", host.host),
        )
        .remedy(remedy)
    }

    fn options(&self, target: &Target<'_>) -> Result<MySqlConnectOptions, Failure> {
        let mode = match self.dsn.ssl_mode() {
            SslMode::Disabled => MySqlSslMode::Disabled,
            SslMode::Preferred => MySqlSslMode::Preferred,
            SslMode::Required => MySqlSslMode::Required,
            SslMode::VerifyCa => MySqlSslMode::VerifyCa,
            SslMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        };
        // The driver's own session settings are off: Session::set_up states all.
        let mut options = MySqlConnectOptions::new()
            .username(self.dsn.user())
            .database(self.dsn.name())
            .ssl_mode(mode)
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .disable_statement_logging();
        if let Some(password) = self.dsn.password() {
            options = options.password(password.expose());
        }
        match target {
            Target::Host(host) => options = options.host(&host.host).port(host.port),
            Target::Socket(path) => {
                options = options.socket(path).ssl_mode(MySqlSslMode::Disabled);
            }
        }
        if let (Some(ca), SslMode::VerifyCa | SslMode::VerifyIdentity) =
            (&self.ca, self.dsn.ssl_mode())
        {
            readable(ca).map_err(|error| {
                self.failure(
                    &codes::DB_TLS,
                    format!("the database's CA file {} cannot be read", ca.display()),
                )
                .cause(&error)
            })?;
            options = options.ssl_ca(ca);
        }
        Ok(options)
    }

    fn failure(&self, code: &'static Code, what: String) -> Failure {
        Failure::new(code, what).value(self.dsn.to_string())
    }

    async fn timed_out(&self, target: &Target<'_>, started: Instant) -> Failure {
        let name = target.name();
        let greeting = match target {
            Target::Host(host) => probe::greeting(host).await,
            Target::Socket(_) => None,
        };
        if let Some(Greeting::Other(said)) = &greeting {
            return self.not_mariadb(&name, said);
        }
        // A server that hangs accepts connections too (the kernel does), so
        // silence is no proof that it is something else.
        let detail = match greeting {
            Some(Greeting::Silent) => "; it accepts connections and says nothing",
            _ => "",
        };
        self.failure(
            &codes::DB_TIMEOUT,
            format!(
                "the database at {name} did not answer within {:.0} s{detail}",
                started.elapsed().as_secs_f64()
            ),
        )
    }

    fn not_mariadb(&self, name: &str, said: &str) -> Failure {
        self.failure(
            &codes::DB_NOT_MARIADB,
            format!("what answers at {name} is not a MariaDB server: it says \"{said}\""),
        )
    }

    async fn refused(&self, target: &Target<'_>, error: &sqlx::Error) -> Failure {
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
            NoConnection::Refused => self.failure(
                &codes::DB_REFUSED,
                format!("nothing accepts connections at the database's address {name}"),
            ),
            NoConnection::Unreachable => self.failure(
                &codes::DB_TIMEOUT,
                format!("the database at {name} cannot be reached"),
            ),
            NoConnection::Closed => self.failure(
                &codes::DB_LOST,
                format!("the database at {name} closed the connection during the login"),
            ),
            NoConnection::Tls => self
                .failure(
                    &codes::DB_TLS,
                    format!(
                        "no TLS connection with the database at {name} that meets ssl-mode={}",
                        self.dsn.ssl_mode()
                    ),
                )
                .remedy(self.tls_remedy(error)),
            NoConnection::Password => self
                .failure(
                    &codes::DB_AUTH,
                    format!("the database at {name} refuses the user {user}"),
                )
                .remedy(format!(
                    "Correct user and password in database.dsn, or on the server: \
                     ALTER USER '{user}'@'%' IDENTIFIED BY 'PASSWORD'; (a user that is \
                     REQUIREd to use SSL needs ssl-mode=required here)."
                )),
            NoConnection::Plugin => self
                .failure(
                    &codes::DB_AUTH_PLUGIN,
                    format!(
                        "the user {user} of the database at {name} logs in by a method \
                         that this agent does not speak (ed25519, PAM, GSSAPI and others)"
                    ),
                )
                .remedy(format!(
                    "On the server: ALTER USER '{user}'@'%' IDENTIFIED VIA \
                     mysql_native_password USING PASSWORD('PASSWORD');"
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
                    "On the server: CREATE DATABASE `{database}` CHARACTER SET utf8mb4 \
                     COLLATE utf8mb4_unicode_ci; and {}",
                    super::grants::statement(user, database, &["ALL PRIVILEGES"])
                )),
            NoConnection::NoAccessToDatabase => self
                .failure(
                    &codes::DB_GRANTS,
                    format!(
                        "the user {user} may not use the database {database} on {name}, \
                         or it does not exist"
                    ),
                )
                .remedy(format!(
                    "On the server: CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET \
                     utf8mb4 COLLATE utf8mb4_unicode_ci; and {}",
                    super::grants::statement(user, database, &["ALL PRIVILEGES"])
                )),
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

    fn tls_remedy(&self, error: &sqlx::Error) -> String {
        let text = describe(error);
        let mode = self.dsn.ssl_mode();
        if text.contains("does not support TLS") {
            return format!(
                "Set ssl_cert and ssl_key on the server, or write ssl-mode=preferred in \
                 database.dsn instead of {mode}, knowing that the password then crosses the \
                 network in a form that can be replayed."
            );
        }
        let ca = match &self.ca {
            Some(ca) => format!("the CA in {}", ca.display()),
            None => "a public CA (the metadata gives no CA of its own: pki.ca)".to_owned(),
        };
        format!(
            "The server's certificate must come from {ca}, be in date{}.",
            if mode == SslMode::VerifyIdentity {
                ", and name the host as database.dsn writes it"
            } else {
                ""
            }
        )
    }
}

fn readable(file: &Path) -> Result<(), std::io::Error> {
    fs_err::File::open(file).map(drop)
}

fn with_text(mut failure: Failure, error: &sqlx::Error) -> Failure {
    failure.causes.push(describe(error));
    failure
}

/// The failure to show for a round in which no host answered.
fn lead(mut failures: Vec<Failure>) -> Failure {
    let first = failures
        .iter()
        .position(|failure| !failure.kind().retried())
        .unwrap_or(0);
    if failures.is_empty() {
        return Failure::new(&codes::INTERNAL, "the DSN names no host");
    }
    let mut chosen = failures.remove(first);
    chosen
        .causes
        .extend(failures.iter().map(|other| format!("also tried: {other}")));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_must_mend_leads() {
        let down = || Failure::new(&codes::DB_REFUSED, "db1:3306 is down");
        let wrong = Failure::new(&codes::DB_AUTH, "db2:3306 refuses sf");
        let shown = lead(vec![down(), wrong]);
        assert_eq!(shown.code.id, "SF-DB-AUTH");
        assert_eq!(
            shown.causes,
            ["also tried: SF-DB-REFUSED: db1:3306 is down"]
        );
        assert_eq!(lead(vec![down(), down()]).code.id, "SF-DB-REFUSED");
        assert_eq!(lead(Vec::new()).code.id, "SF-INTERNAL");
    }

    #[test]
    fn a_connector_never_shows_the_password() {
        let connector = Connector::new("mysql://sf:hunter2@db/x".parse().unwrap());
        assert!(!format!("{connector:?}").contains("hunter2"));
    }

    #[test]
    fn names_that_do_not_resolve_are_transient_and_say_dns() {
        let connector = Connector::new("mysql://sf:hunter2@db.invalid/x".parse().unwrap())
            .connect_timeout(Duration::from_secs(20));
        let runtime = super::super::runtime().unwrap();
        let failure = runtime.block_on(connector.connect()).unwrap_err();
        runtime.shutdown_background();
        // A sandbox without any name server may be slow to say so.
        assert!(
            matches!(failure.code.id, "SF-DB-RESOLVE" | "SF-DB-TIMEOUT"),
            "{failure}"
        );
        assert!(failure.kind().retried());
        assert!(failure.what.contains("db.invalid"), "{failure}");
    }
}
