use super::super::{SeriesSlot, hand::Event};
use super::*;
use crate::claim::Claim;
use crate::database::OperationRecord;
use proptest::prelude::*;

const NOW: f64 = 1_763_902_698.0;

fn member(state: State, fqdn: &str, error: Option<&str>) -> Member {
    Member {
        state,
        fqdn: fqdn.into(),
        role: "hypervisor".into(),
        series: (error != Some("SF-GATE-VERSION")).then(|| "0.8".into()),
        release: "0.8.1".into(),
        image_version: "0.8.1-1".into(),
        phase: if error.is_some() {
            "preflight"
        } else {
            "ready"
        }
        .into(),
        last_boot: NOW - 130.0,
        last_error: error.map(str::to_owned),
    }
}

fn fleet(nodes: Vec<Member>) -> Fleet {
    Fleet {
        server: "db1:3306".into(),
        now: NOW,
        bootstrapped: true,
        series: vec![SeriesSlot {
            slot: 0,
            series: "0.8".into(),
            predecessor: Some("0.7".into()),
            release: "0.8.1".into(),
            introduced_at: NOW - 9000.0,
            introduced_by: "db1.example.com".into(),
            nodes: nodes.len(),
        }],
        claims: vec![Claim {
            role: "network".into(),
            fqdn: "net1.example.com".into(),
            instance_id: "x".into(),
            claimed_at: NOW - 600.0,
            last_boot: None,
        }],
        schema_maker: None,
        nodes,
        operations: vec![OperationRecord {
            name: "auth-secret-seed".into(),
            outcome: "created".into(),
            fingerprint: "withheld".into(),
            completed_at: NOW - 9000.0,
            completed_by: "db1.example.com".into(),
            agent_version: "0.1.0".into(),
            image_version: "0.8.1-1".into(),
        }],
        events: vec![Event {
            at: NOW - 60.0,
            action: "forget".into(),
            subject: "hv9.example.com".into(),
            detail: String::new(),
            by_user: "alice".into(),
            by_host: "desk".into(),
        }],
    }
}

#[test]
fn a_first_boot_from_one_desk() {
    let mut net = member(State::Ready, "net1.example.com", None);
    net.role = "network".into();
    let fleet = fleet(vec![
        member(State::Failed, "hv17.example.com", Some("SF-PKI-EXPIRED")),
        member(State::Refused, "hv3.example.com", Some("SF-GATE-VERSION")),
        member(
            State::Waiting,
            "hv4.example.com",
            Some("SF-DAEMON-NOT-READY"),
        ),
        member(State::Ready, "hv1.example.com", None),
        net,
    ]);
    insta::assert_snapshot!(render(&fleet, Look::default()), @r"
    5 nodes: 2 ready, 1 waiting, 1 REFUSED, 1 FAILED

    STATE    NODE  ROLE        SERIES  IMAGE    PHASE      BOOTED  ERROR
    FAILED   hv17  hypervisor  0.8     0.8.1-1  preflight  2m      SF-PKI-EXPIRED
    REFUSED  hv3   hypervisor  -       0.8.1-1  preflight  2m      SF-GATE-VERSION
    waiting  hv4   hypervisor  0.8     0.8.1-1  preflight  2m      SF-DAEMON-NOT-READY
    ready    hv1   hypervisor  0.8     0.8.1-1  ready      2m
    ready    net1  network     0.8     0.8.1-1  ready      2m
    (names without .example.com)

    series     0.8, 5 nodes, in slot 0 since 2025-11-23 10:28:18 UTC (release 0.8.1, by db1.example.com)
               the other slot is free
    role       network is held by net1.example.com since 2025-11-23 12:48:18 UTC
    bootstrap  done: 1 operations, the last by db1.example.com, 2025-11-23 10:28:18 UTC
    by hand    forget hv9.example.com by alice on desk, 2025-11-23 12:57:18 UTC
    database   db1:3306
    ");
    let short = render(
        &fleet,
        Look {
            colour: true,
            nodes: Some(1),
            ..Look::default()
        },
    );
    assert!(short.contains("and 4 more"), "{short}");
    assert!(short.contains("\x1b[31mFAILED"), "{short}");
}

#[test]
fn on_a_narrow_terminal_the_reason_stays() {
    let mut tier = member(State::Waiting, "a-database-node.example.com", None);
    tier.role = "database-tier".into();
    tier.last_error = Some("SF-DAEMON-NOT-READY".into());
    let members = [
        member(State::Failed, "hv17.example.com", Some("SF-PKI-EXPIRED")),
        tier,
    ];
    let at = |width| {
        let look = Look {
            width: Some(width),
            ..Look::default()
        };
        nodes(&members, ".example.com", NOW, look)
    };
    insta::assert_snapshot!(at(80), @r"
    STATE    NODE             ROLE           SERIES  BOOTED  ERROR
    FAILED   hv17             hypervisor     0.8     2m      SF-PKI-EXPIRED
    waiting  a-database-node  database-tier  0.8     2m      SF-DAEMON-NOT-READY
    ");
    insta::assert_snapshot!(at(60), @r"
    STATE    NODE            SERIES  BOOTED  ERROR
    FAILED   hv17            0.8     2m      SF-PKI-EXPIRED
    waiting  a-database-n..  0.8     2m      SF-DAEMON-NOT-READY
    ");
    insta::assert_snapshot!(at(40), @r"
    STATE    NODE          ERROR
    FAILED   hv17          SF-PKI-EXPIRED
    waiting  a-database..  SF-DAEMON-NOT-R..
    ");
}

#[test]
fn an_image_of_a_long_version_leaves_room_for_names() {
    let named = |name: &str| Member {
        image_version: "0.8.0rc4.dev12+g1a2b3c4-1".into(),
        role: "database-tier".into(),
        ..member(State::Waiting, name, Some("SF-DAEMON-NOT-READY"))
    };
    let members = [
        named("hv-rack12-u07.dc-frankfurt"),
        named("hv-rack12-u08.dc-frankfurt"),
        named("hv-rack12-u08.dc-frankfurt2"),
    ];
    let at = |width| {
        let look = Look {
            width,
            ..Look::default()
        };
        nodes(&members, "", NOW, look)
    };
    insta::assert_snapshot!(at(None), @r"
    STATE    NODE                         ROLE           SERIES  IMAGE                      PHASE      BOOTED  ERROR
    waiting  hv-rack12-u07.dc-frankfurt   database-tier  0.8     0.8.0rc4.dev12+g1a2b3c4-1  preflight  2m      SF-DAEMON-NOT-READY
    waiting  hv-rack12-u08.dc-frankfurt   database-tier  0.8     0.8.0rc4.dev12+g1a2b3c4-1  preflight  2m      SF-DAEMON-NOT-READY
    waiting  hv-rack12-u08.dc-frankfurt2  database-tier  0.8     0.8.0rc4.dev12+g1a2b3c4-1  preflight  2m      SF-DAEMON-NOT-READY
    ");
    insta::assert_snapshot!(at(Some(110)), @r"
    STATE    NODE                         ROLE           SERIES  IMAGE         BOOTED  ERROR
    waiting  hv-rack12-u07.dc-frankfurt   database-tier  0.8     0.8.0rc4.d..  2m      SF-DAEMON-NOT-READY
    waiting  hv-rack12-u08.dc-frankfurt   database-tier  0.8     0.8.0rc4.d..  2m      SF-DAEMON-NOT-READY
    waiting  hv-rack12-u08.dc-frankfurt2  database-tier  0.8     0.8.0rc4.d..  2m      SF-DAEMON-NOT-READY
    ");
    insta::assert_snapshot!(at(Some(80)), @r"
    STATE    NODE                         SERIES  BOOTED  ERROR
    waiting  hv-rack12-u07.dc-frankfurt   0.8     2m      SF-DAEMON-NOT-READY
    waiting  hv-rack12-u08.dc-frankfurt   0.8     2m      SF-DAEMON-NOT-READY
    waiting  hv-rack12-u08.dc-frankfurt2  0.8     2m      SF-DAEMON-NOT-READY
    ");
}

#[test]
fn an_empty_database_is_said_in_words() {
    let text = render(&Fleet::default(), Look::default());
    assert!(text.starts_with("no nodes: the cluster has not been bootstrapped\n"));
}

proptest! {
    /// Whatever nodes are called and whatever happened to them.
    #[test]
    fn no_line_is_wider_than_promised(
        width in 50..=300_usize,
        names in prop::collection::btree_set(
            "[a-z0-9-]{1,63}(\\.[a-z]{1,60}){0,3}[\\x00-\\x1f\\x7f-\\u{9f}]{0,2}", 1..6),
        evil in "[a-z\\x00-\\x1f\\x7f-\\u{9f}]{0,9}",
        error in prop::sample::select(crate::codes::ALL.iter().map(|code| code.id).collect::<Vec<_>>()),
    ) {
        let nodes = names.iter().map(|name| member(State::Failed, name, Some(error)));
        let nodes = nodes.map(|node| Member {
            role: format!("hypervisor{evil}"),
            phase: evil.clone(),
            image_version: evil.clone(),
            ..node
        });
        let look = Look { width: Some(width), ..Look::default() };
        let mut fleet = fleet(nodes.collect());
        fleet.events[0].by_user.clone_from(&evil);
        fleet.series[0].introduced_by.clone_from(&evil);
        let text = render(&fleet, look);
        for line in text.split('\n') {
            prop_assert!(line.chars().count() <= width, "{line}");
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        }
        // Where there is no terminal all of it stands in its line.
        let whole = render(&fleet, Look::default());
        for name in &names {
            prop_assert!(whole.contains(&*plain::line(name.split('.').next().unwrap())));
        }
        prop_assert!(!whole.contains(".."), "{whole}");
        // The reason is never what is cut.
        prop_assert!(text.contains(error), "{text}");
    }

    /// Names that begin and end alike, on any terminal.
    #[test]
    fn no_two_nodes_look_the_same(
        width in 20..=120_usize,
        names in prop::collection::btree_set("hv-(aa|ab|b){0,9}-rack\\.(x|y){1,30}\\.org", 2..9),
    ) {
        let members: Vec<Member> =
            names.iter().map(|name| member(State::Failed, name, Some("SF-PKI-EXPIRED"))).collect();
        let look = Look { width: Some(width), ..Look::default() };
        let text = nodes(&members, "", NOW, look);
        let shown: BTreeSet<&str> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        prop_assert_eq!(shown.len(), names.len(), "{}", text);
    }
}
