//! How a statement or a connection failed, by what helps. Error numbers are
//! MariaDB's (`include/mysqld_ername.h`); this is the only place that has them.

use std::io;

use sf_contract::secret::{MASK, mask_urls};

use super::session::Arg;
use crate::codes::{self, Code};
use crate::failure::Failure;

/// The answer to any statement of a user whose password has expired.
pub(super) const EXPIRED: u16 = 1820;

/// What a failed statement calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Lost against another transaction (1213, 1205, 1020), or ended by somebody
    /// (1317, 1969): roll back, try again.
    Conflict,
    /// The server takes no statements now (1047 on Galera, and 1180 in answer to
    /// a COMMIT when it loses its quorum; 1053, 1927).
    NotReady,
    /// The server has as many connections, questions or prepared statements as it
    /// may have (1040, 1203, 1226, 1461), of all its clients together or of this
    /// user: who hangs up gives back what it has of them.
    Crowded,
    /// The connection broke or went silent; whether the statement ran is unknown.
    Lost,
    /// The server takes no writes (1290, 1792, 1836), or the engine none (1036).
    ReadOnly,
    /// The server has no room (1021, 1114, 1030, 1037, 1038, 1041, and whatever quotes the
    /// system's own error for it).
    Full,
    /// The row is there already (1062): somebody was faster.
    Duplicate,
    /// A foreign key says no (1451, 1452, 1216, 1217).
    ForeignKey,
    /// A privilege is missing (1044, 1142, 1143, 1227).
    Denied,
    /// The user's password has expired (1820): the server lets the user in, and
    /// takes nothing from it but a new one.
    Expired,
    /// The table or column is not there, or of another shape (1146, 1054, 1364, 4025, …).
    Shape,
    /// Anything else.
    Other,
}

impl Class {
    /// Is the same transaction worth trying again?
    pub(crate) fn retried(self) -> bool {
        matches!(
            self,
            Self::Conflict
                | Self::NotReady
                | Self::Crowded
                | Self::Lost
                | Self::ReadOnly
                | Self::Full
        )
    }

    /// Does another connection, perhaps to another server, have better chances?
    pub(crate) fn reconnects(self) -> bool {
        matches!(
            self,
            Self::NotReady | Self::Crowded | Self::Lost | Self::ReadOnly
        )
    }

    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(inner) if no_space(inner.message()) => Self::Full,
            sqlx::Error::Database(inner) => number(error).map_or(Self::Other, |number| {
                Self::of_answer(number, inner.message())
            }),
            // A protocol error leaves the connection in an unknown state.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Self::Lost,
            _ => Self::Other,
        }
    }

    /// 1290 is about any of the server's options; its text says which one.
    fn of_answer(number: u16, text: &str) -> Self {
        if number == 1290
            && !["read-only", "read_only"]
                .iter()
                .any(|word| text.contains(word))
        {
            return Self::Other;
        }
        Self::of_number(number)
    }

    fn of_number(number: u16) -> Self {
        match number {
            1213 | 1205 | 1020 | 1317 | 1969 => Self::Conflict,
            1047 | 1053 | 1180 | 1927 => Self::NotReady,
            1040 | 1203 | 1226 | 1461 => Self::Crowded,
            1152 | 1158..=1161 | 1184 | 2006 | 2013 => Self::Lost,
            1036 | 1290 | 1792 | 1836 => Self::ReadOnly,
            1021 | 1030 | 1037 | 1038 | 1041 | 1114 => Self::Full,
            1062 => Self::Duplicate,
            1216 | 1217 | 1451 | 1452 => Self::ForeignKey,
            1044 | 1142 | 1143 | 1227 | 1370 => Self::Denied,
            EXPIRED => Self::Expired,
            1054 | 1136 | 1146 | 1265 | 1364 | 1366 | 1406 | 4025 => Self::Shape,
            _ => Self::Other,
        }
    }
}

/// Does a server's text quote `ENOSPC` (28), `EDQUOT` (122), or what the engine makes
/// of them (135, 136: "No more room in record file", "in index file")? A full disk
/// comes with the number of whatever was being written: 3, 1004, 1005, 1026, 1598, …
fn no_space(text: &str) -> bool {
    ["Errcode: ", "errno: "].iter().any(|label| {
        text.split(label).skip(1).any(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            matches!(digits.as_str(), "28" | "122" | "135" | "136")
        })
    })
}

/// A statement that failed. Holds no values: statements carry placeholders.
#[derive(Debug)]
pub(crate) struct SqlError {
    /// What helps.
    pub(crate) class: Class,
    /// What the statement was for, `recording the operation`.
    pub(crate) doing: &'static str,
    /// Server and user, `db1:3306 as sf`.
    pub(crate) at: String,
    text: String,
    number: Option<u16>,
}

impl SqlError {
    pub(crate) fn new(error: &sqlx::Error, doing: &'static str, at: &str) -> Self {
        Self {
            class: Class::of(error),
            doing,
            at: at.to_owned(),
            text: describe(error),
            number: number(error),
        }
    }

    pub(crate) fn silent(doing: &'static str, at: &str, seconds: u64) -> Self {
        Self {
            class: Class::Lost,
            doing,
            at: at.to_owned(),
            text: format!("no answer within {seconds} s"),
            number: None,
        }
    }

    pub(crate) fn gone(doing: &'static str, at: &str) -> Self {
        Self {
            class: Class::Lost,
            doing,
            at: at.to_owned(),
            text: "the connection broke earlier".to_owned(),
            number: None,
        }
    }

    /// The server said that it takes no writes, when the session began.
    pub(crate) fn read_only(doing: &'static str, at: &str) -> Self {
        Self {
            class: Class::ReadOnly,
            doing,
            at: at.to_owned(),
            text: "read_only or innodb_read_only is set".to_owned(),
            number: None,
        }
    }

    /// What the work was based on has changed meanwhile: start again.
    pub(crate) fn overtaken(doing: &'static str, at: &str) -> Self {
        Self {
            class: Class::Conflict,
            doing,
            at: at.to_owned(),
            text: "another node changed the record meanwhile".to_owned(),
            number: None,
        }
    }

    /// A value that came back is not what the column should hold.
    pub(crate) fn odd_value(doing: &'static str, at: &str, text: impl Into<String>) -> Self {
        Self {
            class: Class::Shape,
            doing,
            at: at.to_owned(),
            text: text.into(),
            number: None,
        }
    }

    /// Would another server, which has other locks and another disk, perhaps do
    /// what this one keeps us waiting for? A wait that came to nothing (1205), no
    /// room, silence. Not a conflict between transactions, which is settled at once
    /// and is the same on all servers of a cluster.
    pub(crate) fn kept_waiting(&self) -> bool {
        matches!(self.class, Class::Full | Class::Lost) || self.number == Some(1205)
    }

    /// Server and reason, for the failure of a later attempt.
    pub(crate) fn brief(&self) -> String {
        format!("{}: {}", self.at, mask_urls(&self.text))
    }

    /// Masks what the server quotes in answer to a statement with secrets, as it
    /// does for values that do not fit their column. All of it: a value that is
    /// long is quoted in part, and a part is not recognised.
    #[must_use]
    pub(crate) fn hiding(mut self, args: &[Arg]) -> Self {
        if args.iter().any(|arg| matches!(arg, Arg::Secret(_)))
            && let Some((before, rest)) = self.text.split_once('\'')
        {
            let after = rest.rsplit_once('\'').map_or("", |(_, after)| after);
            self.text = format!("{before}'{MASK}'{after}");
        }
        self
    }

    /// As an operator meets it.
    pub(crate) fn into_failure(self) -> Failure {
        let code: &'static Code = match self.class {
            Class::Conflict | Class::Crowded => &codes::DB_BUSY,
            Class::NotReady => &codes::DB_NOT_READY,
            Class::Lost => &codes::DB_LOST,
            Class::ReadOnly => &codes::DB_READ_ONLY,
            Class::Full => &codes::DB_FULL,
            Class::Denied => &codes::DB_GRANTS,
            Class::Expired => &codes::DB_AUTH,
            Class::Shape => &codes::DB_SCHEMA,
            Class::Duplicate | Class::ForeignKey | Class::Other => &codes::DB_STATEMENT,
        };
        let mut failure = Failure::new(
            code,
            format!("the database at {} failed while {}", self.at, self.doing),
        );
        failure.causes.push(mask_urls(&self.text));
        failure
    }
}

/// The driver's text without its preamble.
pub(crate) fn describe(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(inner) => inner.to_string(),
        sqlx::Error::Io(inner) => inner.to_string(),
        sqlx::Error::Tls(inner) => inner.to_string(),
        other => other.to_string(),
    };
    mask_urls(&text)
}

/// MariaDB's error number, when the server answered with one.
pub(crate) fn number(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()
        .and_then(|inner| inner.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .map(sqlx::mysql::MySqlDatabaseError::number)
}

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoConnection {
    Refused,
    /// Nothing came back.
    TimedOut,
    /// The kernel knows no way there.
    Unreachable,
    Closed,
    Tls,
    Password,
    Plugin,
    Blocked,
    NoSuchDatabase,
    NoAccessToDatabase,
    Full,
    NotReady,
    /// The bytes are not those of a MariaDB server.
    Protocol,
    Other,
}

impl NoConnection {
    /// Classifies what the driver says about one attempt at one host.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(io) => Self::of_io(io),
            sqlx::Error::Tls(_) => Self::Tls,
            // The driver has no variant for it; its text is pinned by a test
            // against a real server with an ed25519 user.
            sqlx::Error::Protocol(text) if text.contains("unknown authentication plugin") => {
                Self::Plugin
            }
            sqlx::Error::Protocol(_) | sqlx::Error::Decode(_) => Self::Protocol,
            sqlx::Error::Database(_) => match number(error) {
                Some(number) => Self::of_number(number),
                None => Self::Other,
            },
            _ => Self::Other,
        }
    }

    fn of_number(number: u16) -> Self {
        match number {
            1045 | 1130 | 1698 | 1820 | 1862 | 1396 | 3118 | 4151 => Self::Password,
            1251 | 1524 | 2049 | 2059 => Self::Plugin,
            1129 => Self::Blocked,
            1049 => Self::NoSuchDatabase,
            1044 => Self::NoAccessToDatabase,
            1040 | 1203 | 1226 => Self::Full,
            1047 | 1053 | 1927 => Self::NotReady,
            _ => Self::Other,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Self::Unreachable,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            // rustls reports a refused certificate or handshake through the socket.
            io::ErrorKind::InvalidData => Self::Tls,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sf_contract::secret::Secret;

    #[test]
    fn numbers_are_classified_by_what_helps() {
        // All numbers that are known, each once: one that is lost from the code
        // makes an outage a refusal, or a refusal an outage.
        let table: [(&[u16], Class, bool); 12] = [
            // 1317: KILL QUERY, which Galera may do too; 1969: a limit of the server.
            (&[1213, 1205, 1020, 1317, 1969], Class::Conflict, true),
            (&[1047, 1053, 1180, 1927], Class::NotReady, true),
            (&[1040, 1203, 1226, 1461], Class::Crowded, true),
            (
                &[1152, 1158, 1159, 1160, 1161, 1184, 2006, 2013],
                Class::Lost,
                true,
            ),
            (&[1036, 1290, 1792, 1836], Class::ReadOnly, true),
            (&[1021, 1030, 1037, 1038, 1041, 1114], Class::Full, true),
            (&[1062], Class::Duplicate, false),
            (&[1216, 1217, 1451, 1452], Class::ForeignKey, false),
            (&[1044, 1142, 1143, 1227, 1370], Class::Denied, false),
            (&[EXPIRED], Class::Expired, false),
            (
                &[1054, 1136, 1146, 1265, 1364, 1366, 1406, 4025],
                Class::Shape,
                false,
            ),
            (&[1064, 1157, 1162], Class::Other, false),
        ];
        for (numbers, class, retried) in table {
            for number in numbers {
                assert_eq!(Class::of_number(*number), class, "{number}");
            }
            assert_eq!(class.retried(), retried, "{class:?}");
        }
        assert!(Class::Lost.reconnects() && !Class::Conflict.reconnects());
        assert!(Class::Crowded.reconnects());
        for (option, class) in [
            ("--read-only", Class::ReadOnly),
            ("--innodb-read-only", Class::ReadOnly),
            ("NO_ENGINE_SUBSTITUTION", Class::Other),
            ("--max-session-mem-used=8192", Class::Other),
        ] {
            let text = format!(
                "The MariaDB server is running with the {option} option so it cannot execute \
                 this statement"
            );
            assert_eq!(Class::of_answer(1290, &text), class, "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_known_by_what_the_system_said() {
        for text in [
            "Error writing file './run5/cluster_series.frm' (Errcode: 28 \"No space left on device\")",
            "Can't create table `sf`.`x` (errno: 28 \"No space left on device\")",
            "Error writing file 'binlog' (Errcode: 122 \"Disk quota exceeded\")",
            "Can't create table `sf`.`x` (errno: 135 \"No more room in record file\")",
        ] {
            assert!(no_space(text), "{text}");
        }
        for text in [
            "Can't create table `sf`.`x` (errno: 150 \"Foreign key constraint is incorrectly formed\")",
            "Error writing file 'x' (Errcode: 2 \"No such file\")",
            "Duplicate entry '28' for key 'PRIMARY'",
        ] {
            assert!(!no_space(text), "{text}");
        }
    }

    #[test]
    fn sockets_are_classified_by_what_the_operator_does() {
        use io::ErrorKind as K;
        for (kind, expected) in [
            (K::ConnectionRefused, NoConnection::Refused),
            (K::NotFound, NoConnection::Refused),
            (K::HostUnreachable, NoConnection::Unreachable),
            (K::NetworkUnreachable, NoConnection::Unreachable),
            (K::TimedOut, NoConnection::TimedOut),
            (K::UnexpectedEof, NoConnection::Closed),
            (K::InvalidData, NoConnection::Tls),
            (K::PermissionDenied, NoConnection::Other),
        ] {
            let error = sqlx::Error::Io(kind.into());
            assert_eq!(NoConnection::of(&error), expected, "{kind:?}");
        }
        let odd = sqlx::Error::Protocol("unknown authentication plugin: client_ed25519".into());
        assert_eq!(NoConnection::of(&odd), NoConnection::Plugin);
    }

    #[test]
    fn refusals_to_connect_are_classified_by_what_the_operator_does() {
        use NoConnection as N;
        let table: [(&[u16], N); 8] = [
            (
                &[1045, 1130, 1698, 1820, 1862, 1396, 3118, 4151],
                N::Password,
            ),
            (&[1251, 1524, 2049, 2059], N::Plugin),
            (&[1129], N::Blocked),
            (&[1049], N::NoSuchDatabase),
            (&[1044], N::NoAccessToDatabase),
            (&[1040, 1203, 1226], N::Full),
            (&[1047, 1053, 1927], N::NotReady),
            (&[1064], N::Other),
        ];
        for (numbers, expected) in table {
            for number in numbers {
                assert_eq!(N::of_number(*number), expected, "{number}");
            }
        }
    }

    /// Transactions of a cluster conflict everywhere alike; to wait in vain is a
    /// matter of one server.
    #[test]
    fn only_what_another_server_may_do_is_waiting() {
        let error = |class, number| SqlError {
            class,
            doing: "testing",
            at: "db:1 as sf".into(),
            text: String::new(),
            number,
        };
        for (class, number, waiting) in [
            (Class::Conflict, Some(1205), true),
            (Class::Full, Some(1021), true),
            (Class::Lost, None, true),
            (Class::Conflict, Some(1213), false),
            (Class::Conflict, None, false),
            (Class::Duplicate, Some(1062), false),
        ] {
            assert_eq!(
                error(class, number).kept_waiting(),
                waiting,
                "{class:?} {number:?}"
            );
        }
        assert!(!SqlError::overtaken("testing", "db:1 as sf").kept_waiting());
    }

    #[test]
    fn driver_texts_are_masked() {
        let error = sqlx::Error::Protocol("bad mysql://sf:hunter2@db/x".into());
        let failure = SqlError::new(&error, "testing", "db:1 as sf").into_failure();
        assert_eq!(failure.code.id, "SF-DB-LOST");
        assert!(!format!("{failure} {failure:?}").contains("hunter2"));
    }

    proptest! {
        /// MariaDB quotes 128 characters of a value at most, a secret of 128 and
        /// its quotes in part.
        #[test]
        fn no_part_of_a_secret_is_quoted(secret in "[a-z0-9]{30,128}", cut in 8_usize..128) {
            let quoted: String = secret.chars().take(cut).collect();
            let error = SqlError {
                text: format!("1366 (22007): Incorrect integer value: '\"{quoted}' for column `a`.`b`.`c` at row 1"),
                ..SqlError::gone("writing", "db1:3306 as sf")
            };
            let hidden = error.hiding(&[Arg::Secret(Secret::new(&secret))]).text;
            prop_assert_eq!(
                hidden,
                "1366 (22007): Incorrect integer value: '******' for column `a`.`b`.`c` at row 1"
            );
        }
    }
}
