use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Dsn {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn all_parts_are_taken_apart() {
    let dsn = parse(
        "mysql://sf:p%40ss%2Fw%23rd@db1,db2:3307,[::1]:3308/shaken_fist?ssl-mode=VERIFY_IDENTITY",
    );
    assert_eq!(dsn.user(), "sf");
    assert_eq!(dsn.password().unwrap().expose(), "p@ss/w#rd");
    let hosts: Vec<String> = dsn.hosts().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["db1:3306", "db2:3307", "[::1]:3308"]);
    assert_eq!((dsn.host(), dsn.port()), ("db1", 3306));
    assert_eq!(dsn.name(), "shaken_fist");
    assert_eq!(dsn.ssl_mode(), SslMode::VerifyIdentity);
    assert!(dsn.ssl_mode().demands_tls());
}

#[test]
fn what_is_left_out_has_defaults() {
    let dsn = parse("mysql://sf@db/shakenfist");
    assert_eq!(dsn.password(), None);
    assert_eq!(dsn.port(), 3306);
    assert_eq!(dsn.ssl_mode(), SslMode::Preferred);
    assert_eq!(parse("mysql://sf:@db/x").password().unwrap().expose(), "");
}

#[test]
fn a_socket_needs_no_host() {
    for text in [
        "mysql://root@/sf?socket=/run/mysqld/mysqld.sock",
        "mysql://root@localhost/sf?socket=/run/mysqld/mysqld.sock",
    ] {
        let dsn = parse(text);
        assert_eq!(dsn.socket(), Some("/run/mysqld/mysqld.sock"));
        assert_eq!(dsn.host(), "localhost");
    }
}

#[test]
fn display_masks_and_parses_again() {
    let shown = parse("mysql://s%3Af:hunter2@db1,db2:1/d?ssl-mode=required").to_string();
    assert_eq!(
        shown,
        "mysql://s%3Af:******@db1:3306,db2:1/d?ssl-mode=required"
    );
    let shown = format!("{:?}", parse("mysql://a:hunter2@/d?socket=/x%20y"));
    assert_eq!(shown, "Dsn(mysql://a:******@/d?socket=/x%20y)");
    let dsn = parse("mysql://a@h/d?ssl-ca=/etc/ca%20db.pem&ssl-mode=verify-ca");
    assert_eq!(dsn.ssl_ca(), Some("/etc/ca db.pem"));
    let shown = dsn.to_string();
    assert_eq!(
        shown,
        "mysql://a@h:3306/d?ssl-mode=verify-ca&ssl-ca=/etc/ca%20db.pem"
    );
    assert_eq!(parse(&shown), dsn);
}

#[test]
fn each_mistake_has_its_own_error() {
    let table = [
        ("", DsnError::Empty),
        ("postgres://a:hunter2@h/d", DsnError::Scheme),
        ("sf:hunter2@h/d", DsnError::Scheme),
        ("mysql://a:hunter2@2@h/d", DsnError::Unencoded),
        ("mysql://a:hunter2/2@h/d", DsnError::Unencoded),
        ("mysql://a:hunter2?2@h/d", DsnError::Unencoded),
        ("mysql://a:hunter2#2@h/d", DsnError::Unencoded),
        (
            "mysql://a:hunter2%zz@h/d",
            DsnError::Encoding { part: "password" },
        ),
        (
            "mysql://a:hunter2%ff@h/d",
            DsnError::Encoding { part: "password" },
        ),
        ("mysql://a:hunter2%4", DsnError::NoUser),
        ("mysql://a:hunter2/d", DsnError::NoUser),
        ("mysql://:hunter2@h/d", DsnError::NoUser),
        ("mysql://a:hunter2@/d", DsnError::EmptyHost { position: 1 }),
        (
            "mysql://a:hunter2@h,,i/d",
            DsnError::EmptyHost { position: 2 },
        ),
        (
            "mysql://a:hunter2@h,:1/d",
            DsnError::EmptyHost { position: 2 },
        ),
        ("mysql://a:hunter2@::1/d", DsnError::BadHost { position: 1 }),
        (
            "mysql://a:hunter2@[::1/d",
            DsnError::BadHost { position: 1 },
        ),
        (
            "mysql://a:hunter2@[::1]x/d",
            DsnError::BadHost { position: 1 },
        ),
        ("mysql://a:hunter2@h h/d", DsnError::BadHost { position: 1 }),
        ("mysql://a:hunter2@h:/d", DsnError::BadPort { position: 1 }),
        ("mysql://a:hunter2@h:0/d", DsnError::BadPort { position: 1 }),
        (
            "mysql://a:hunter2@h,i:65536/d",
            DsnError::BadPort { position: 2 },
        ),
        (
            "mysql://a:hunter2@h:hunter2/d",
            DsnError::BadPort { position: 1 },
        ),
        ("mysql://a:hunter2@h", DsnError::NoDatabase),
        ("mysql://a:hunter2@h/", DsnError::NoDatabase),
        (
            "mysql://a:hunter2@h/?ssl-mode=required",
            DsnError::NoDatabase,
        ),
        ("mysql://a:hunter2@h/d#x", DsnError::Fragment),
        (
            "mysql://a:hunter2@h/d?ssl-mode=hunter2",
            DsnError::BadSslMode,
        ),
        (
            "mysql://a:hunter2@h/d?socket=x",
            DsnError::BadPath { name: "socket" },
        ),
        (
            "mysql://a:hunter2@h/d?ssl-mode=verify-ca&ssl-ca=ca.pem",
            DsnError::BadPath { name: "ssl-ca" },
        ),
        (
            "mysql://a:hunter2@h/d?ssl-mode=required&ssl-ca=/ca.pem",
            DsnError::CaUnused {
                mode: SslMode::Required,
            },
        ),
        ("mysql://a:hunter2@h/d?socket=/x", DsnError::SocketAndHosts),
        (
            "mysql://a:hunter2@/d?socket=/x&ssl-mode=verify-ca",
            DsnError::SocketAndTls,
        ),
        (
            "mysql://a:hunter2@h/d?ssl-mode=disabled&ssl-mode=required",
            DsnError::Twice { name: "ssl-mode" },
        ),
    ];
    for (text, expected) in table {
        let error = text.parse::<Dsn>().expect_err(text);
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn errors_quote_nothing_of_what_follows_the_database() {
    for (text, position) in [
        ("mysql://a@h/d?hunter2", 1),
        ("mysql://a@h/d?ssl-mode=required&hunter2=x", 2),
    ] {
        let expected = DsnError::UnknownParameter {
            position,
            suggestion: None,
        };
        let found = text.parse::<Dsn>().unwrap_err();
        assert_eq!(found, expected, "{text}");
        assert!(!format!("{found} {found:?}").contains("hunter2"), "{found}");
    }
    // A quote that is not closed swallows the fields below.
    for text in [
        "mysql://a@h/d?ssl-mode=verify-ca&ssl-ca=/x\nsystem_key = 'hunter2'",
        "mysql://a@h/d\nsystem_key",
        "mysql://a\u{1b}[2J@h/d",
    ] {
        assert_eq!(
            text.parse::<Dsn>().unwrap_err(),
            DsnError::Control,
            "{text}"
        );
    }
}

#[test]
fn unknown_parameters_are_suggested() {
    let text = |dsn: &str| dsn.parse::<Dsn>().unwrap_err().to_string();
    assert_eq!(
        text("mysql://a@h/d?sslmode=required"),
        "parameter 1 of the DSN is not known; did you mean \"ssl-mode\"?"
    );
    assert_eq!(
        text("mysql://a@h/d?ssl-mode=required&charset=x"),
        "parameter 2 of the DSN is not known; known are ssl-mode, ssl-ca, socket"
    );
}

proptest! {
    #[test]
    fn any_user_and_password_round_trip(
        user in "[ -~]{1,20}|\\PC{1,8}",
        password in "[ -~]{0,30}|\\PC{0,10}",
    ) {
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let dsn = parse(&format!("mysql://{}:{}@h/d", encode(&user), encode(&password)));
        prop_assert_eq!(dsn.user(), user);
        prop_assert_eq!(dsn.password().unwrap().expose(), password);
    }

    #[test]
    fn no_error_and_no_display_has_the_password(
        password in "[A-Z]{6}[@/?#:%&=, -~]{0,6}[A-Z]{6}",
        template in prop::sample::select(vec![
            "mysql://u:P@h/d", "mysql://u:Ph/d", "mysql://u@P/d", "mysql:/u:P@h/d",
            "mysql://P", "P", "mysql://u:P@h:x/d", "mysql://u:P@h/d?x=y",
            "mysql://u:P@/d", "mysql://u:P@h", "mysql://P:x@h,/d",
        ]),
    ) {
        let text = template.replace('P', &password);
        // What ends up as the user or the host is not the password any more.
        let secret = &password[..6];
        match text.parse::<Dsn>() {
            Err(error) => prop_assert!(!error.to_string().contains(secret), "{}", error),
            Ok(dsn) if dsn.password().is_some_and(|p| p.expose().contains(secret)) => {
                let shown = format!("{dsn} {dsn:?}");
                prop_assert!(!shown.contains(secret), "{}", shown);
            }
            Ok(_) => {}
        }
    }
}
