//! The clouds' metadata services, as they behave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use base64::Engine as _;

use super::server::{Act, Asked, Server, answer, nobody, with};
use super::*;
use crate::sources::cloud::Cloud;

const ONCE: Remote = Remote::Ask {
    wait: Duration::ZERO,
    wait_with_copy: Duration::ZERO,
};

const PATIENT: Remote = Remote::Ask {
    wait: Duration::from_mins(1),
    wait_with_copy: Duration::ZERO,
};

fn machine_in(cloud: Cloud) -> Machine {
    let (field, mark) = match cloud {
        Cloud::Ec2 => ("sys_vendor", "Amazon EC2"),
        Cloud::OpenStack => ("product_name", "OpenStack Nova"),
        Cloud::Gce => ("product_name", "Google Compute Engine"),
        Cloud::Azure => ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
    };
    Machine::new()
        .file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        .file(&format!("/sys/class/dmi/id/{field}"), format!("{mark}\n"))
}

fn ask(machine: &Machine, server: &str) -> Collected {
    collect(&machine.places().remote(ONCE).metadata_service(server))
}

fn place(collected: &Collected) -> String {
    let place = collected
        .looked
        .iter()
        .find(|place| place.layer == Layer::Cloud);
    place.unwrap().to_string()
}

/// `IMDSv2`: no token, no answer.
fn ec2(user_data: Option<&'static str>) -> impl FnMut(&Asked) -> Act {
    move |asked| {
        let token = asked.has("x-aws-ec2-metadata-token: t0ken==");
        match asked.line.as_str() {
            "PUT /latest/api/token HTTP/1.1"
                if asked.has("x-aws-ec2-metadata-token-ttl-seconds: 300") =>
            {
                answer(200, "T0KEN==")
            }
            "PUT /latest/api/token HTTP/1.1" => answer(400, ""),
            _ if !token => answer(401, "<html>Unauthorized</html>"),
            "GET /latest/user-data HTTP/1.1" => match user_data {
                Some(data) => answer(200, data),
                None => answer(404, "<html>Not Found</html>"),
            },
            "GET /latest/meta-data/instance-id HTTP/1.1" => answer(200, "i-0123456789"),
            _ => answer(404, ""),
        }
    }
}

fn openstack(user_data: Option<&'static str>) -> impl FnMut(&Asked) -> Act {
    move |asked| match (asked.line.as_str(), user_data) {
        ("GET /openstack/latest/user_data HTTP/1.1", Some(data)) => answer(200, data),
        ("GET /openstack/latest/meta_data.json HTTP/1.1", _) => {
            answer(200, "{\"uuid\":\"u-9\",\"x\":1}")
        }
        _ => answer(404, ""),
    }
}

/// Without the header: 403, as the real one says.
fn gce(attributes: Vec<(&'static str, &'static str)>) -> impl FnMut(&Asked) -> Act {
    move |asked| {
        if !asked.has("metadata-flavor: google") {
            return answer(403, "Your client does not have permission");
        }
        if asked.line == "GET /computeMetadata/v1/instance/id HTTP/1.1" {
            return answer(200, "77");
        }
        let found = attributes.iter().find(|(name, _)| {
            asked.line == format!("GET /computeMetadata/v1/instance/attributes/{name} HTTP/1.1")
        });
        found.map_or_else(|| answer(404, ""), |(_, value)| answer(200, value))
    }
}

/// 400 without the version or the header.
fn azure(user_data: &'static str) -> impl FnMut(&Asked) -> Act {
    move |asked| {
        if !asked.has("metadata: true") || !asked.line.contains("api-version=") {
            return answer(400, "{\"error\":\"Bad request\"}");
        }
        if asked
            .line
            .starts_with("GET /metadata/instance/compute/vmId?")
        {
            return answer(200, "vm-5");
        }
        if !asked
            .line
            .starts_with("GET /metadata/instance/compute/userData?")
        {
            return answer(404, "");
        }
        answer(200, base64::prelude::BASE64_STANDARD.encode(user_data))
    }
}

#[test]
fn each_cloud_gives_its_user_data() {
    let servers = [
        (
            Cloud::Ec2,
            Server::start(ec2(Some(GOOD))),
            "EC2 user data: found (instance i-0123456789)",
        ),
        (
            Cloud::OpenStack,
            Server::start(openstack(Some(GOOD))),
            "OpenStack user data: found (instance u-9)",
        ),
        (
            Cloud::Gce,
            Server::start(gce(vec![("user-data", GOOD)])),
            "GCE user data: found (instance 77)",
        ),
        (
            Cloud::Azure,
            Server::start(azure(GOOD)),
            "Azure user data: found (instance vm-5)",
        ),
    ];
    for (cloud, server, shown) in servers {
        let machine = machine_in(cloud);
        let collected = ask(&machine, &server.url(""));
        assert_eq!(
            load(&collected).unwrap().metadata.node.name,
            "hv1.example.com"
        );
        assert_eq!(place(&collected), shown);
        // It is the weakest source.
        let machine = machine.file(FILE, "schema = 1\nnode.name = \"f.example.com\"\n");
        let collected = ask(&machine, &server.url(""));
        assert_eq!(
            load(&collected).unwrap().metadata.node.name,
            "f.example.com"
        );
        // And it is kept.
        collected.keep(&Paths::under(machine.path("/"))).unwrap();
        let kept = collect(&machine.places().metadata_service(nobody()));
        assert_eq!(load(&kept).unwrap().metadata.node.name, "f.example.com");
        let dead = ask(&machine, &nobody());
        assert_eq!(load(&dead).unwrap().warnings[0].code.id, "SF-FETCH-KEPT");
    }
}

#[test]
fn a_cloud_without_user_data_is_not_here() {
    let mut shown = String::new();
    for (cloud, server) in [
        (Cloud::Ec2, Server::start(ec2(None))),
        (Cloud::OpenStack, Server::start(openstack(None))),
        (Cloud::Gce, Server::start(gce(vec![]))),
        (Cloud::Azure, Server::start(azure(""))),
        (Cloud::Ec2, Server::start(ec2(Some("\n")))),
        (Cloud::Ec2, Server::start(ec2(Some("#cloud-config\n")))),
    ] {
        let machine = machine_in(cloud);
        let collected = ask(&machine, &server.url(""));
        assert_eq!(
            load(&collected).unwrap_err().failures[0].code.id,
            "SF-META-MISSING"
        );
        shown.push_str(&place(&collected));
        shown.push('\n');
    }
    insta::assert_snapshot!(shown, @"
    EC2 user data: the EC2 metadata service has no user data for this machine (404 or empty for /latest/user-data)
    OpenStack user data: the OpenStack metadata service has no user data for this machine (404 or empty for /openstack/latest/user_data)
    GCE user data: the GCE metadata service has no user data for this machine (404 or empty for the attributes sf-metadata and user-data)
    Azure user data: the Azure metadata service has no user data for this machine (404 or empty for userData)
    EC2 user data: the user data is empty
    EC2 user data: the user data is empty
    ");
}

/// `OpenStack`'s service says 404 to everything until the instance's port is
/// bound, Azure's while it starts: that is no answer about user data.
#[test]
fn a_service_that_does_not_know_the_instance_yet_is_waited_for() {
    let patient = Remote::Ask {
        wait: Duration::from_secs(20),
        wait_with_copy: Duration::ZERO,
    };
    for cloud in [Cloud::OpenStack, Cloud::Gce, Cloud::Azure] {
        let late = |early: u8| {
            let turn = AtomicU8::new(0);
            let mut real: Box<dyn FnMut(&Asked) -> Act + Send> = match cloud {
                Cloud::OpenStack => Box::new(openstack(Some(GOOD))),
                Cloud::Gce => Box::new(gce(vec![("user-data", GOOD)])),
                _ => Box::new(azure(GOOD)),
            };
            Server::start(move |asked| {
                if turn.fetch_add(1, Ordering::SeqCst) < early {
                    answer(404, "")
                } else {
                    real(asked)
                }
            })
        };
        let machine = machine_in(cloud);
        let (never, soon) = (late(u8::MAX), late(4));
        let rejected = load(&ask(&machine, &never.url(""))).unwrap_err();
        let failure = &rejected.failures[0];
        assert_eq!(
            (failure.code.id, failure.kind().exit_code()),
            ("SF-FETCH-UNAVAILABLE", 75),
            "{cloud:?}: {failure:?}"
        );
        let places = machine.places().remote(patient);
        let collected = collect(&places.metadata_service(soon.url("")));
        assert_eq!(
            load(&collected).unwrap().metadata.node.name,
            "hv1.example.com",
            "{cloud:?}"
        );
    }
}

#[test]
fn that_a_cloud_has_no_user_data_is_remembered_too() {
    let server = Server::start(ec2(None));
    let machine = machine_in(Cloud::Ec2).file(FILE, GOOD);
    // A node with a file of its own does not start on a service that is dead
    // from the first: what that would say is not known.
    let rejected = load(&ask(&machine, &nobody())).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-FETCH-REFUSED");
    let collected = ask(&machine, &server.url(""));
    load(&collected).unwrap();
    collected.keep(&Paths::under(machine.path("/"))).unwrap();
    let dead = ask(&machine, &nobody());
    assert_eq!(load(&dead).unwrap().warnings[0].code.id, "SF-FETCH-KEPT");
    assert!(
        place(&dead).ends_with("it had nothing for this machine then"),
        "{}",
        place(&dead)
    );
}

#[test]
fn imds_version_1_is_never_used() {
    // A service that would answer version 1, and gives no token.
    let server = Server::start(|asked| {
        if asked.line.starts_with("PUT") {
            answer(403, "")
        } else {
            answer(200, GOOD)
        }
    });
    let rejected = load(&ask(&machine_in(Cloud::Ec2), &server.url(""))).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-FETCH-STATUS");
    assert!(
        rejected.failures[0]
            .remedy_text()
            .contains("--http-tokens required")
    );
    assert!(
        rejected.failures[0]
            .remedy_text()
            .contains("a credential sf.metadata_cloud that says no")
    );
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.line.starts_with("PUT"))
    );
}

#[test]
fn a_token_that_expired_is_renewed_once() {
    let mut real = ec2(Some(GOOD));
    let turn = Arc::new(AtomicU8::new(0));
    let server = Server::start(move |asked| {
        if asked.line.starts_with("GET /latest/user-data")
            && turn.fetch_add(1, Ordering::SeqCst) == 0
        {
            return answer(401, "");
        }
        real(asked)
    });
    load(&ask(&machine_in(Cloud::Ec2), &server.url(""))).unwrap();
    let tokens = server
        .asked()
        .iter()
        .filter(|asked| asked.line.starts_with("PUT"))
        .count();
    assert_eq!(tokens, 2);
}

#[test]
fn gces_own_attribute_wins_over_cloud_inits() {
    let server = Server::start(gce(vec![
        ("sf-metadata", GOOD),
        ("user-data", "#cloud-config\n"),
    ]));
    load(&ask(&machine_in(Cloud::Gce), &server.url(""))).unwrap();
    // One that was emptied hides nothing.
    for blank in ["", "\n", "#cloud-config\n"] {
        let server = Server::start(gce(vec![("sf-metadata", blank), ("user-data", GOOD)]));
        load(&ask(&machine_in(Cloud::Gce), &server.url(""))).unwrap();
    }
    let server = Server::start(gce(vec![("user-data", "#cloud-config\nusers: []\n")]));
    let rejected = load(&ask(&machine_in(Cloud::Gce), &server.url(""))).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-META-FOREIGN");
    assert!(rejected.failures[0].remedy_text().contains("sf-metadata"));
}

#[test]
fn azure_that_gives_no_base64_or_updates_itself_is_said() {
    let server = Server::start(|_| answer(200, "no base64!"));
    let rejected = load(&ask(&machine_in(Cloud::Azure), &server.url(""))).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-FETCH-BODY");
    let server = Server::start(|_| answer(410, ""));
    let rejected = load(&ask(&machine_in(Cloud::Azure), &server.url(""))).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-FETCH-UNAVAILABLE");
}

#[test]
fn nobody_is_asked_who_is_not_known_by_dmi_or_not_wanted() {
    let server = Server::start(openstack(Some(GOOD)));
    let plain = Machine::new().file("/sys/class/dmi/id/sys_vendor", "QEMU\n");
    ask(&plain, &server.url(""));
    let off = machine_in(Cloud::OpenStack).file("/proc/cmdline", "sf.metadata_cloud=no\n");
    assert_eq!(
        place(&ask(&off, &server.url(""))),
        "cloud metadata service: not asked: it is switched off (kernel command line, sf.metadata_cloud)"
    );
    // A cloud's machine has no kernel command line of its own; its ESP has credentials.
    let off = machine_in(Cloud::OpenStack).credential("sf.metadata_cloud", "no\n");
    let collected = ask(&off, &server.url(""));
    assert_eq!(
        place(&collected),
        "cloud metadata service: not asked: it is switched off (credential sf.metadata_cloud)"
    );
    assert!(collected.warnings.is_empty(), "{:?}", collected.warnings);
    let torn = machine_in(Cloud::OpenStack)
        .credential("sf.metadata_cloud", "no")
        .file("/proc/cmdline", "sf.metadata_cloud=yes\n");
    let rejected = load(&ask(&torn, &server.url(""))).unwrap_err();
    assert!(rejected.failures[0].what.ends_with("disagree"));
    let drive = machine_in(Cloud::OpenStack).file("/dev/disk/by-label/config-2", "x");
    assert!(place(&ask(&drive, &server.url(""))).contains("config drive"));
    let kept = machine_in(Cloud::OpenStack);
    collect(&kept.places().metadata_service(server.url("")));
    collect(
        &kept
            .places()
            .metadata_service(server.url(""))
            .remote(Remote::Skip),
    );
    assert!(server.asked().is_empty());
    let wrong = machine_in(Cloud::OpenStack).file("/proc/cmdline", "sf.metadata_cloud=never\n");
    let rejected = load(&ask(&wrong, &server.url(""))).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-FETCH-URL");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
        let _ = crate::sources::cloud::decode_azure(&bytes);
        let _ = crate::sources::http::Fingerprint::parse(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_dead_service_names_the_way_out() {
    let rejected = load(&ask(&machine_in(Cloud::Ec2), &nobody())).unwrap_err();
    let failure = &rejected.failures[0];
    assert_eq!(
        (failure.code.id, failure.kind().exit_code()),
        ("SF-FETCH-REFUSED", 75)
    );
    assert!(
        failure.remedy_text().contains("sf.metadata_cloud=no"),
        "{failure:?}"
    );
}

/// Whatever goes wrong on the wire is known by its own code in every cloud,
/// and stops: the service is there, so its answer counts.
#[test]
fn a_service_that_misbehaves_stops_with_the_codes_of_any_server() {
    let acts: [(&str, Act, &str); 7] = [
        ("503", answer(503, "later"), "SF-FETCH-UNAVAILABLE"),
        (
            "redirect",
            with(302, "location: http://elsewhere.example.com/\r\n", ""),
            "SF-FETCH-REDIRECT",
        ),
        (
            "a web page",
            with(200, "content-type: text/html\r\n", "<html>"),
            "SF-FETCH-BODY",
        ),
        (
            "oversized",
            with(200, "", vec![b'#'; 1024 * 1024 + 1]),
            "SF-FETCH-BODY",
        ),
        (
            "truncated",
            Act::Bytes(b"HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\nschema".to_vec()),
            "SF-FETCH-CUT-OFF",
        ),
        (
            "slow",
            Act::Drip(
                b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n".to_vec(),
                Duration::from_millis(300),
            ),
            "SF-FETCH-TIMEOUT",
        ),
        ("silent", Act::Silence, "SF-FETCH-TIMEOUT"),
    ];
    let clouds = [Cloud::Ec2, Cloud::OpenStack, Cloud::Gce, Cloud::Azure];
    // All at once: several of them take their time.
    std::thread::scope(|scope| {
        let mut targets: Vec<(Cloud, bool)> = clouds.map(|cloud| (cloud, false)).into();
        // And EC2's token itself.
        targets.push((Cloud::Ec2, true));
        for (cloud, token) in targets {
            for (what, act, code) in acts.clone() {
                scope.spawn(move || {
                    let server = Server::start(move |asked| {
                        // EC2's token is given: what comes after it is at fault.
                        if asked.line.starts_with("PUT ") && !token {
                            answer(200, "T0KEN==")
                        } else {
                            act.clone()
                        }
                    });
                    let collected = ask(&machine_in(cloud), &server.url(""));
                    let found: Vec<&str> = collected
                        .broken
                        .iter()
                        .map(|failure| failure.code.id)
                        .collect();
                    assert_eq!(found, [code], "{cloud:?}: {what}, token {token}");
                    // Of a cloud there is no URL to correct.
                    let remedy = collected.broken[0].remedy_text();
                    assert!(
                        remedy.contains("sf.metadata_cloud=no") && remedy.contains("a credential"),
                        "{cloud:?}: {what}, token {token}: {remedy}"
                    );
                });
            }
        }
    });
}

/// What is down at first and then answers is asked until it does, at each step
/// of the conversation.
#[test]
fn a_service_that_is_not_ready_at_first_is_asked_again() {
    std::thread::scope(|scope| {
        for cloud in [Cloud::Ec2, Cloud::OpenStack, Cloud::Gce, Cloud::Azure] {
            scope.spawn(move || {
                let mut real: Box<dyn FnMut(&Asked) -> Act + Send> = match cloud {
                    Cloud::Ec2 => Box::new(ec2(Some(GOOD))),
                    Cloud::OpenStack => Box::new(openstack(Some(GOOD))),
                    Cloud::Gce => Box::new(gce(vec![("user-data", GOOD)])),
                    Cloud::Azure => Box::new(azure(GOOD)),
                };
                let mut seen = std::collections::BTreeSet::new();
                let server = Server::start(move |asked| {
                    if seen.insert(asked.line.clone()) {
                        answer(503, "later")
                    } else {
                        real(asked)
                    }
                });
                let machine = machine_in(cloud);
                let places = machine.places().remote(PATIENT);
                let collected = collect(&places.metadata_service(server.url("")));
                let loaded = load(&collected).unwrap();
                assert_eq!(loaded.metadata.node.name, "hv1.example.com", "{cloud:?}");
            });
        }
    });
}

/// The instance's id is shown and nothing more.
#[test]
fn user_data_without_an_instance_id_is_enough_on_ec2() {
    for status in [403, 404, 500, 503] {
        let mut real = ec2(Some(GOOD));
        let server = Server::start(move |asked| {
            if asked.line.contains("instance-id") {
                answer(status, "")
            } else {
                real(asked)
            }
        });
        let machine = machine_in(Cloud::Ec2);
        let places = machine.places().remote(PATIENT);
        let collected = collect(&places.metadata_service(server.url("")));
        load(&collected).unwrap();
        assert_eq!(place(&collected), "EC2 user data: found");
        let asked = server.asked();
        let times = asked
            .iter()
            .filter(|asked| asked.line.contains("instance-id"));
        assert_eq!(times.count(), 1, "{status}");
    }
}
