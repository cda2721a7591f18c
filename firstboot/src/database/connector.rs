//! From a DSN to a session: every host in its turn, every failure kept.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_contract::metadata::NodeMetadata;
use sf_contract::metadata::dsn::{Dsn, HostPort, SslMode};
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use super::backoff::Backoff;
use super::parking::Parking;
use super::preflight;
use super::session::Session;
use super::tls;
use crate::codes;
use crate::failure::Failure;
use crate::pki;

/// How long one host may take to answer when the metadata says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes sessions. Cheap to clone; holds the password and never shows it.
#[derive(Clone, Debug)]
pub struct Connector {
    pub(super) dsn: Dsn,
    timeout: Duration,
    ca: Option<Ca>,
    parking: Option<Parking>,
    pub(super) hurried: bool,
}

/// Where the authority of the servers' certificates is.
#[derive(Clone, Debug)]
enum Ca {
    File(PathBuf),
    /// PEM text that the metadata holds.
    Text(String),
}

/// One place to connect to.
pub(super) enum Target<'d> {
    Host(&'d HostPort),
    Socket(&'d str),
}

impl Target<'_> {
    pub(super) fn name(&self) -> String {
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
            hurried: false,
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

    /// The connector of a node: its DSN, its time limit, its authority.
    pub fn of(metadata: &NodeMetadata) -> Self {
        let database = &metadata.database;
        let connector = Self::new(database.dsn.clone()).connect_timeout(database.connect_timeout);
        match &metadata.pki.ca {
            Some(ca) => connector.ca_text(ca.expose()),
            None => connector,
        }
    }

    /// How long one host may take, look-up, TLS and login included.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For a conversation that has so long in all: each host has its share, so one
    /// that says nothing leaves time for those behind it. Nobody looks then what
    /// else may listen there.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        let hosts = u32::try_from(self.targets(None).len()).unwrap_or(u32::MAX);
        self.timeout = self.timeout.min(limit / hosts.max(1));
        self.hurried = true;
        self
    }

    /// A PEM file with the authority of the servers' certificates
    /// (`ssl-mode=verify-ca` and `verify-identity`): it alone is trusted. The
    /// DSN's `ssl-ca` outweighs it; without either the system's authorities are.
    #[must_use]
    pub fn ca(mut self, ca: impl Into<PathBuf>) -> Self {
        self.ca = Some(Ca::File(ca.into()));
        self
    }

    /// The same as PEM text: `pki.ca` of the metadata.
    #[must_use]
    pub fn ca_text(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(Ca::Text(pem.into()));
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
        self.round(None).await
    }

    /// A round that begins behind a server, and ends with it.
    async fn round(&self, behind: Option<&str>) -> Result<Session, Failure> {
        if let Some(parking) = &self.parking
            && let Some(session) = parking.take().await
        {
            return Ok(session);
        }
        let mut failures = Vec::new();
        let mut read_only = None;
        for target in self.targets(behind) {
            match self.connect_to(&target).await {
                Ok(session) if session.read_only() => {
                    read_only.get_or_insert(session);
                }
                Ok(session) => return Ok(passing_over(failures, session)),
                Err(failure) => failures.push(failure),
            }
        }
        match read_only {
            Some(session) => Ok(passing_over(failures, session)),
            None => Err(lead(failures)),
        }
    }

    /// Why the hosts cannot be used that are not the session's: those that were
    /// passed over for it, and those that nobody has tried yet, once each.
    pub async fn others(&self, session: &Session) -> Vec<Failure> {
        let mut failures = session.passed_over.clone();
        // For a server that takes no writes all others were tried.
        if session.read_only() {
            return failures;
        }
        let targets = self.targets(None);
        let behind = targets
            .iter()
            .skip_while(|target| target.name() != session.server())
            .skip(1);
        for target in behind {
            match self.connect_to(target).await {
                Ok(other) => other.close().await,
                Err(failure) => failures.push(failure),
            }
        }
        failures
    }

    /// Connects, and tries again until `deadline` while failures are transient;
    /// `tell` hears about each new reason to wait.
    pub async fn connect_until(
        &self,
        deadline: Instant,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Session, Failure> {
        self.connect_behind(None, deadline, tell).await
    }

    /// As [`Self::connect_until`], with the server of that name as the last of
    /// each round.
    pub(super) async fn connect_behind(
        &self,
        behind: Option<&str>,
        deadline: Instant,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Session, Failure> {
        let mut backoff = Backoff::for_connections(deadline);
        let mut told = String::new();
        loop {
            let failure = match self.round(behind).await {
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

    fn targets(&self, behind: Option<&str>) -> Vec<Target<'_>> {
        let mut targets: Vec<_> = match self.dsn.socket() {
            Some(path) => vec![Target::Socket(path)],
            None => self.dsn.hosts().iter().map(Target::Host).collect(),
        };
        let last = targets
            .iter()
            .position(|target| behind == Some(target.name().as_str()));
        if let Some(last) = last {
            targets.rotate_left(last + 1);
        }
        targets
    }

    /// Does the DSN name more than one server?
    pub(super) fn has_others(&self) -> bool {
        self.dsn.socket().is_none() && self.dsn.hosts().len() > 1
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
        match session.set_up().await {
            Ok(()) => Ok(session),
            // MySQL, and MariaDB before 10.2, lack some of the variables.
            Err(error) if error.class == super::Class::Other => {
                Err(preflight::wrong_version(&mut session)
                    .await
                    .unwrap_or_else(|| error.into_failure()))
            }
            Err(error) if error.class == super::Class::Expired => {
                Err(self.expired(session.server(), error))
            }
            Err(error) => Err(error.into_failure()),
        }
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
        if matches!(target, Target::Host(_)) && self.dsn.ssl_mode().verifies() {
            let authorities = self.authorities()?;
            options = options.ssl_ca_from_pem(authorities);
        }
        Ok(options)
    }

    fn authorities(&self) -> Result<Vec<u8>, Failure> {
        let file = match (self.dsn.ssl_ca(), &self.ca) {
            (Some(file), _) => Path::new(file),
            (None, Some(Ca::File(file))) => file,
            (None, Some(Ca::Text(pem))) => {
                return tls::authorities(pem.as_bytes()).ok_or_else(|| {
                    self.failure(
                        &codes::DB_TLS_CA,
                        "pki.ca holds no certificate to judge the database server by".into(),
                    )
                });
            }
            (None, None) => Path::new(tls::SYSTEM),
        };
        tls::authorities_of(file).map_err(|failure| failure.value(self.dsn.to_string()))
    }

    /// Whom the DSN's mode trusts to have issued the server's certificate, and
    /// where they stand; `None` where it trusts everybody.
    pub(super) fn trusted(&self) -> Option<(Vec<pki::Certificate>, String)> {
        if !self.dsn.ssl_mode().verifies() {
            return None;
        }
        let field = match (self.dsn.ssl_ca(), &self.ca) {
            (Some(file), _) => file.to_owned(),
            (None, Some(Ca::File(file))) => file.display().to_string(),
            (None, Some(Ca::Text(_))) => "pki.ca".into(),
            (None, None) => tls::SYSTEM.into(),
        };
        Some((pki::certificates(&self.authorities().ok()?), field))
    }

    /// The authority as remedies name it.
    pub(super) fn authority(&self) -> String {
        match (self.dsn.ssl_ca(), &self.ca) {
            (Some(file), _) => format!("the authority in {file} (ssl-ca of database.dsn)"),
            (None, Some(Ca::File(file))) => format!("the authority in {}", file.display()),
            (None, Some(Ca::Text(pem))) => match pki::certificates(pem.as_bytes()).first() {
                Some(ca) => format!("the authority in pki.ca ({})", ca.subject),
                None => "the authority in pki.ca".into(),
            },
            (None, None) => format!(
                "a public authority ({}), since none of your own is given as pki.ca or ssl-ca",
                tls::SYSTEM
            ),
        }
    }
}

/// The session, which tells why others were passed over for it: while it works
/// nobody notices that they do not.
fn passing_over(failures: Vec<Failure>, mut session: Session) -> Session {
    for failure in &failures {
        tracing::warn!(
            code = failure.code.id,
            "the database server {} is used, for want of another: {failure}",
            session.server()
        );
    }
    session.passed_over = failures;
    session
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
    fn a_server_that_was_left_is_the_last_of_the_next_round() {
        let connector = Connector::new("mysql://sf@a:1,b:2,c:3/x".parse().unwrap());
        let round = |behind| {
            let targets = connector.targets(behind);
            targets.iter().map(Target::name).collect::<Vec<_>>()
        };
        assert_eq!(round(None), ["a:1", "b:2", "c:3"]);
        assert_eq!(round(Some("a:1")), ["b:2", "c:3", "a:1"]);
        assert_eq!(round(Some("b:2")), ["c:3", "a:1", "b:2"]);
        assert_eq!(round(Some("c:3")), ["a:1", "b:2", "c:3"]);
        assert!(connector.has_others());
        assert!(!Connector::new("mysql://sf@a:1/x".parse().unwrap()).has_others());
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
