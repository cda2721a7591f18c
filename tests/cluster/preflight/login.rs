//! Users who are not let in, or may not do what the agent needs.

use super::*;

#[test]
fn passwords_databases_and_addresses_that_are_wrong() {
    let server = shared();
    let good = server.database("wrongs");
    let at = format!("127.0.0.1:{}", server.port);

    let failure = refused(&good.replace(PASSWORD, "hunter2"));
    assert_eq!(failure.code.id, "SF-DB-AUTH", "{failure}");
    assert_eq!(failure.kind().exit_code(), 78);
    assert_eq!(
        failure.what,
        format!("the database at {at} refuses the user wrongs")
    );
    assert!(failure.causes[0].starts_with("1045 (28000)"), "{failure}");
    assert!(!format!("{failure:?}").contains("hunter2"));
    for part in [
        "SELECT host FROM mysql.user WHERE user = 'wrongs'; says where it may log in from",
        "ALTER USER 'wrongs'@'HOST' IDENTIFIED BY 'PASSWORD';",
        "where none fits: CREATE USER 'wrongs'@'HOST' IDENTIFIED BY 'PASSWORD';",
    ] {
        assert!(
            failure.remedy_text().contains(part),
            "{}",
            failure.remedy_text()
        );
    }

    // A user that may use any database sees that it is missing.
    server.admin().run("GRANT SELECT ON *.* TO `wrongs`@`%`");
    let failure = refused(&good.replace("/wrongs?", "/nowhere?"));
    assert_eq!(failure.code.id, "SF-DB-MISSING", "{failure}");
    assert!(
        failure
            .remedy_text()
            .starts_with("Correct the name in database.dsn. If it is right, on the server: CREATE DATABASE `nowhere` CHARACTER SET utf8mb4")
    );
    // Pasting the statement mends it for this user, who may read everything.
    let (_, statement) = failure.remedy_text().split_once("on the server: ").unwrap();
    let (statement, grants) = statement.split_once("; then run ").unwrap();
    assert!(
        grants.contains(
            "grants --role ROLE --database 'nowhere' --user 'wrongs' --host 'HOST'` prints, ROLE \
             being this node's, HOST what SELECT host FROM mysql.user WHERE user = 'wrongs'; says."
        ) && !failure.remedy_text().contains("ALL PRIVILEGES")
    );
    server.admin().run(statement);
    assert!(block_on(connector(&good.replace("/wrongs?", "/nowhere?")).connect()).is_ok());

    // Others cannot tell a missing one from one that is not theirs.
    server
        .admin()
        .run("REVOKE ALL ON *.* FROM `wrongs`@`%`; CREATE DATABASE others");
    let failure = refused(&good.replace("/wrongs?", "/others?"));
    assert_eq!(failure.code.id, "SF-DB-GRANTS", "{failure}");
    assert!(failure.remedy_text().contains(
        "`sf-firstboot grants --role ROLE --database 'others' --user 'wrongs' --host '%'` prints"
    ));

    let port = support::free_port();
    let failure = refused(&dsn("wrongs", port));
    assert_eq!(failure.code.id, "SF-DB-REFUSED", "{failure}");
    assert_eq!(failure.kind().exit_code(), 75);
    assert!(
        failure.what.ends_with(&format!("address 127.0.0.1:{port}")),
        "{failure}"
    );

    let failure = refused("mysql://sf:x@/sf?socket=/nonexistent/mysqld.sock");
    assert_eq!(failure.code.id, "SF-DB-REFUSED", "{failure}");
}

#[test]
fn missing_grants_are_all_named_with_a_statement_that_mends_them() {
    let server = shared();
    let dsn = server.database("grantless");
    let mut admin = server.admin();
    admin.run(
        "REVOKE ALL ON `grantless`.* FROM `grantless`@`%`; \
               GRANT SELECT, INSERT ON `grantless`.* TO `grantless`@`%`",
    );
    let found = findings(&dsn, Role::DatabaseTier);
    assert_eq!(codes(&found), ["SF-DB-GRANTS"]);
    assert!(
        found[0]
            .what
            .ends_with("UPDATE, DELETE, CREATE, REFERENCES"),
        "{}",
        found[0].what
    );
    admin.run(found[0].remedy_text().trim_start_matches("On the server: "));
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
    // What was asked for is enough, too.
    bootstrapped(&dsn);

    // Privileges that come by a role count.
    admin.run(
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM `grantless`@`%`; \
               CREATE OR REPLACE ROLE deployers; \
               GRANT ALL PRIVILEGES ON `grantless`.* TO deployers; \
               GRANT deployers TO `grantless`@`%`; \
               SET DEFAULT ROLE deployers FOR `grantless`@`%`",
    );
    assert_eq!(codes(&findings(&dsn, Role::DatabaseTier)), [""; 0]);
}

#[test]
fn other_roles_need_no_ddl() {
    let server = shared();
    let dsn = server.database("dml");
    let connector = bootstrapped(&dsn);
    server.admin().run(
        "REVOKE ALL ON `dml`.* FROM `dml`@`%`; \
                        GRANT SELECT, INSERT, UPDATE, DELETE ON `dml`.* TO `dml`@`%`",
    );
    assert_eq!(codes(&findings(&dsn, Role::Hypervisor)), [""; 0]);
    block_on(sf_firstboot::bootstrap::wait_for_bootstrap(
        &connector,
        within(5),
        &mut |_| {},
    ))
    .unwrap();
    support::metadata::pass(&connector, 7, "h1.example").unwrap();
}

/// What keeps a user out whose name and password are right.
#[test]
fn accounts_that_the_server_keeps_out_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("pem"), own.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
    let server = Server::start(&[
        &format!("--ssl-cert={}", file("pem")),
        &format!("--ssl-key={}", file("key")),
    ]);
    let plain = server.database("kept_out");
    let tls = plain.replace("disabled", "required");
    let mut admin = server.admin();
    for (state, dsn, what, remedy) in [
        (
            "PASSWORD EXPIRE",
            &plain,
            "the password of the user kept_out of the database at",
            "ALTER USER 'kept_out'@'HOST' IDENTIFIED BY 'PASSWORD' PASSWORD EXPIRE NEVER;",
        ),
        (
            "ACCOUNT LOCK",
            &plain,
            "the user kept_out of the database at",
            "On the server: ALTER USER 'kept_out'@'HOST' ACCOUNT UNLOCK;",
        ),
        (
            "REQUIRE X509",
            &tls,
            "refuses the user kept_out",
            "the agent shows the server no certificate; ALTER USER 'kept_out'@'HOST' REQUIRE SSL;",
        ),
        (
            "REQUIRE SSL",
            &plain,
            "refuses the user kept_out",
            "If the server demands TLS of this user, write ssl-mode=required.",
        ),
    ] {
        admin.run(&format!("ALTER USER `kept_out`@`%` {state}"));
        let failure = refused(dsn);
        assert_eq!(failure.code.id, "SF-DB-AUTH", "{state}: {failure}");
        assert_eq!(failure.kind().exit_code(), 78, "{state}");
        assert!(failure.what.contains(what), "{state}: {failure}");
        assert!(!failure.causes.is_empty(), "{state}");
        let text = failure.remedy_text();
        assert!(text.contains(remedy), "{state}: {text}");
        assert_eq!(text.contains("write ssl-mode"), state == "REQUIRE SSL");
        // The statement, as it is pasted.
        if let Some(at) = remedy.find("ALTER USER") {
            let statement = remedy[at..].replace("HOST", "%");
            admin.run(&statement.replace("'PASSWORD'", &format!("'{PASSWORD}'")));
            assert!(block_on(connector(dsn).connect()).is_ok(), "{state}");
        }
    }
}

#[test]
fn login_methods_that_the_driver_does_not_speak_are_named() {
    let server = Server::start(&["--plugin-load-add=auth_ed25519"]);
    let dsn = server.database("edward");
    server
        .admin()
        .run("ALTER USER `edward`@`%` IDENTIFIED VIA ed25519 USING PASSWORD('x')");
    let failure = refused(&dsn);
    assert_eq!(failure.code.id, "SF-DB-AUTH-PLUGIN", "{failure}");
    assert!(failure.what.contains("ed25519"), "{failure}");
    let statement = failure.remedy_text().strip_prefix("On the server: ");
    let (statement, host) = statement
        .unwrap()
        .split_once("; with the HOST that ")
        .unwrap();
    assert_eq!(
        host,
        "SELECT host FROM mysql.user WHERE user = 'edward'; says."
    );
    server.admin().run(&statement.replace("HOST", "%"));
    let dsn = dsn.replace(PASSWORD, "PASSWORD");
    assert!(block_on(connector(&dsn).connect()).is_ok());
}
