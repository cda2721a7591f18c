//! What `sf-firstboot check` tries out in the real database, from a desk whose
//! connection goes to one server while nodes go to another, or to the same: it
//! leaves everything as it was on all of them, and is in nobody's way.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sf_contract::role::Role;
use sf_firstboot::failure::Failure;
use sf_firstboot::gate;

use super::lot::Barrier;
use super::metadata::{definitions, dump, image, within};
use super::node::{Node, Ran};
use super::proxy::{At, Proxy, Side, Then};
use super::steps::every_step;
use super::ways::{self, Rows, WAYS, Way};
use super::{Admin, block_on, connector, dsn};

/// A server throws a desk out that has stood in the middle for 5 s; on a machine
/// with much else to do that may be before the others are through.
const IN_TIME: Duration = Duration::from_secs(4);

/// The node of all ways.
const NODE: &str = "node5.example.com";

/// Tables with nothing in them.
const WIPE: &str = "DELETE FROM bootstrap_claims; DELETE FROM bootstrap_nodes; \
     DELETE FROM cluster_series; DELETE FROM bootstrap_operations; DELETE FROM cluster_config; \
     DELETE FROM object_states; DELETE FROM namespace_key_attributes; \
     DELETE FROM namespace_keys; DELETE FROM namespaces";

/// Everything that a rehearsal must leave as it was, on one server.
#[derive(Debug, PartialEq, Eq)]
struct Everything {
    definitions: Vec<String>,
    rows: Rows,
    /// Of the group's write sets, the last one.
    committed: Vec<Vec<String>>,
}

/// A database on one server or several.
pub(crate) struct Ground {
    name: String,
    /// Before the desk's server.
    desk: Proxy,
    /// Before the nodes' server.
    nodes: Proxy,
    /// Is that another one?
    apart: bool,
    /// Of all servers, the desk's first.
    admins: Vec<Admin>,
    /// What the record calls the node's machine.
    own: String,
}

impl Ground {
    /// A database that is there and has nothing in it.
    pub(crate) fn new(
        name: &str,
        first: SocketAddr,
        second: SocketAddr,
        mut admins: Vec<Admin>,
    ) -> Self {
        for admin in &mut admins {
            // What all servers agree on by now.
            admin.run(&format!("SET SESSION wsrep_sync_wait = 7; USE `{name}`"));
        }
        Self {
            name: name.to_owned(),
            desk: Proxy::before(first),
            nodes: Proxy::before(second),
            apart: first != second,
            admins,
            own: String::new(),
        }
    }

    /// All there is to rehearse, with nobody else about; returns at how many
    /// points somebody was, then.
    pub(crate) fn rehearse(&mut self) -> usize {
        self.without_tables();
        self.bootstrap();
        self.behind_the_bootstrap();
        self.after_the_bootstrap();
        self.refused();
        let mut points = 0;
        for way in &WAYS {
            points += self.crossed(way, NODE);
        }
        // Somebody else takes the role that is tried.
        points += self.crossed(&WAYS[2], "net9.example.com");
        // Before it holds any lock.
        let mut overtaken = vec!["START TRANSACTION"];
        if self.apart {
            in_time("ROLLBACK", || self.lost_as_it_gives_way());
            overtaken.extend(["INSERT INTO cluster_config", "ROLLBACK"]);
        }
        for at in overtaken {
            in_time(at, || self.overtaken(at));
        }
        points
    }

    fn without_tables(&mut self) {
        for role in ["database-tier", "single-node", "hypervisor"] {
            let ran = self.leaves_everything(role, 0, false);
            for part in rehearsal(&ran) {
                assert_eq!(part["rehearsed"], false, "{part}");
            }
        }
        assert!(self.rows().is_empty());
    }

    fn bootstrap(&mut self) {
        make_cluster(&self.node("database-tier", &self.nodes));
        let ran = self.node("hypervisor", &self.nodes).agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        self.own = ways::own(&mut self.admins[0]);
    }

    /// Tables without rows: bootstrap and passage in one transaction.
    fn behind_the_bootstrap(&mut self) {
        self.admins[0].run(WIPE);
        let ran = self.leaves_everything("single-node", 0, true);
        assert_eq!(rehearsal(&ran).len(), 2);
        for part in rehearsal(&ran) {
            assert_eq!(part["rehearsed"], true, "{part}");
        }
        self.bootstrap();
    }

    fn after_the_bootstrap(&mut self) {
        for way in &WAYS {
            self.reset(way.before);
            let ran = self.leaves_everything(way.role, 0, true);
            let gate = rehearsal(&ran).pop().unwrap();
            assert_eq!(gate["rehearsed"], true, "{}: {gate}", way.name);
        }
        self.reset(WAYS[0].before);
        let ran = self.leaves_everything("database-tier", 0, true);
        assert_eq!(json(&ran)["forecast"]["bootstrap"]["action"], "nothing");
    }

    fn refused(&mut self) {
        let far = "INSERT INTO cluster_series VALUES (0, '0.5', '0.4', '0.5.0', 0, 'x')";
        let held = format!(
            "{}; INSERT INTO bootstrap_claims VALUES ('network', 'net1', 'm', 0)",
            WAYS[2].before
        );
        for (role, before, code) in [
            ("hypervisor", far, "SF-GATE-VERSION"),
            ("database-tier", far, "SF-GATE-VERSION"),
            ("network", &held, "SF-CLAIM-HELD"),
        ] {
            self.reset(before);
            let ran = self.leaves_everything(role, 77, false);
            assert_eq!(json(&ran)["code"], code, "{}", ran.stdout);
        }
    }

    /// Runs a check with nobody else about.
    fn leaves_everything(&mut self, role: &str, code: i32, writes: bool) -> Ran {
        let before = self.everything();
        self.desk.arm(usize::MAX, Side::Before, || {});
        let ran = check(&self.node(role, &self.desk), role);
        let log = self.desk.log();
        assert_eq!(ran.code, code, "{role}: {}{}", ran.stdout, ran.stderr);
        let says = |words: &[&str]| {
            log.iter()
                .any(|c| words.iter().any(|word| c.contains(word)))
        };
        assert!(
            !says(&["COMMIT", "CREATE ", "ALTER ", "DROP ", "GRANT "]),
            "{log:#?}"
        );
        assert_eq!(says(&["INSERT ", "UPDATE ", "DELETE "]), writes, "{log:#?}");
        assert_eq!(self.everything(), before, "{role}");
        ran
    }

    /// A real passage while the rehearsal of the way stands at a command of its
    /// transaction; at how many points.
    fn crossed(&mut self, way: &Way, fqdn: &str) -> usize {
        self.reset(way.before);
        self.desk.arm(usize::MAX, Side::Before, || {});
        let ran = check(&self.node(way.role, &self.desk), way.role);
        assert_eq!(ran.code, 0, "{}", ran.stdout);
        let commands = self.desk.log();
        self.passing(way, fqdn)().unwrap();
        let passed = self.rows();
        let mut points = 0;
        for number in transaction(&commands) {
            for side in [Side::Before, Side::After] {
                let command = &commands[number - 1];
                let telling = command.starts_with("0x17") || command.ends_with("ROLLBACK");
                // What comes after one is what comes before the next.
                let telling = telling && (side == Side::After || command.ends_with("ROLLBACK"));
                if every_step() || telling {
                    let at = format!("{}, {fqdn}, {side:?} {command}", way.name);
                    in_time(&at, || self.cross(way, fqdn, (number, side), &passed, &at));
                    points += 1;
                }
            }
        }
        points
    }

    /// Was the desk let go in time?
    fn cross(
        &mut self,
        way: &Way,
        fqdn: &str,
        point: (usize, Side),
        passed: &Rows,
        at: &str,
    ) -> bool {
        self.reset(way.before);
        let barrier = self.hold(At::Command(point.0), point.1);
        let node = self.node(way.role, &self.desk);
        let role = way.role;
        let passing = self.passing(way, fqdn);
        let (ran, stood) = thread::scope(|scope| {
            let desk = scope.spawn(move || check(&node, role));
            assert!(barrier.wait_for(1), "{at}: not reached");
            let started = Instant::now();
            let real = scope.spawn(passing);
            let real = if self.apart {
                real.join().unwrap().unwrap();
                // The desk's server has it, too, whatever locks are held there.
                assert_eq!(&self.rows(), passed, "{at}");
                None
            } else {
                // It may have to wait for a lock of the desk's.
                let patience = Duration::from_millis(100);
                while !real.is_finished() && started.elapsed() < patience {
                    thread::sleep(Duration::from_millis(2));
                }
                Some(real)
            };
            let stood = started.elapsed();
            barrier.open();
            if let Some(real) = real {
                real.join().unwrap().unwrap();
            }
            (desk.join().unwrap(), stood)
        });
        assert!(!self.desk.disarm(), "{at}");
        assert_eq!(&self.rows(), passed, "{at}");
        if stood > IN_TIME {
            return false;
        }
        let gate = rehearsal(&ran).pop().unwrap();
        let told = format!("{at}: {} {gate}", ran.code);
        if fqdn != NODE && ran.code == 77 {
            assert_eq!(gate["why"], "SF-CLAIM-HELD", "{told}");
        } else {
            // Or had got to its end before.
            assert_eq!((ran.code, &gate["rehearsed"]), (0, &true.into()), "{told}");
        }
        true
    }

    /// Somebody has just been faster, and ends the transaction as the desk is
    /// about to end it by itself.
    fn lost_as_it_gives_way(&mut self) -> bool {
        let way = &WAYS[2];
        self.reset(way.before);
        let first = self.hold(At::Saying("INSERT INTO bootstrap_nodes"), Side::Before);
        let node = self.node(way.role, &self.desk);
        let role = way.role;
        let [enters, comes_again] = [(); 2].map(|()| self.passing(way, NODE));
        let (ran, stood) = thread::scope(|scope| {
            let desk = scope.spawn(move || check(&node, role));
            assert!(first.wait_for(1));
            let started = Instant::now();
            enters().unwrap();
            let second = self.hold(At::Saying("ROLLBACK"), Side::Before);
            first.open();
            assert!(second.wait_for(1));
            comes_again().unwrap();
            self.rows();
            let stood = started.elapsed();
            second.open();
            (desk.join().unwrap(), stood)
        });
        if stood > IN_TIME {
            return false;
        }
        let errors: Vec<u16> = self
            .desk
            .errors()
            .iter()
            .map(|(number, _)| *number)
            .collect();
        assert!(errors.ends_with(&[1062, 1213]), "{errors:?}");
        let gate = rehearsal(&ran).pop().unwrap();
        assert_eq!((ran.code, &gate["rehearsed"]), (0, &true.into()), "{gate}");
        true
    }

    /// A cluster is made while the desk stands in the middle of making it up.
    fn overtaken(&mut self, at: &'static str) -> bool {
        self.admins[0].run(WIPE);
        let barrier = self.hold(At::Saying(at), Side::Before);
        let node = self.node("single-node", &self.desk);
        let maker = self.node("database-tier", &self.nodes);
        let (ran, stood) = thread::scope(|scope| {
            let desk = scope.spawn(move || check(&node, "single-node"));
            assert!(barrier.wait_for(1), "{at}");
            let started = Instant::now();
            make_cluster(&maker);
            let stood = started.elapsed();
            barrier.open();
            (desk.join().unwrap(), stood)
        });
        assert!(!self.desk.disarm(), "{at}");
        self.rows();
        // Nobody is thrown out who has not begun.
        if stood > IN_TIME && at != "START TRANSACTION" {
            return false;
        }
        for part in rehearsal(&ran) {
            assert_eq!(
                (ran.code, &part["rehearsed"]),
                (0, &true.into()),
                "{at}: {part}"
            );
        }
        // What it had tried before it was overtaken is what it tells.
        let action = if at == "ROLLBACK" {
            "establish"
        } else {
            "nothing"
        };
        let forecast = &json(&ran)["forecast"];
        assert_eq!(forecast["bootstrap"]["action"], action, "{at}: {forecast}");
        true
    }

    /// Where the desk's connection is going to stand.
    fn hold(&self, at: At, side: Side) -> Arc<Barrier> {
        let barrier = Arc::new(Barrier::default());
        let hold = Arc::clone(&barrier);
        self.desk.arm_then(at, side, move || {
            hold.park(0);
            Then::Pass
        });
        barrier
    }

    fn node(&self, role: &str, proxy: &Proxy) -> Node {
        ways::node(role, &self.name, proxy.port)
    }

    fn reset(&mut self, before: &str) {
        let own = self.own.clone();
        ways::reset(&mut self.admins[0], before, &own);
    }

    /// The boot of the node, or of another one of its role.
    fn passing(
        &self,
        way: &Way,
        fqdn: &str,
    ) -> impl FnOnce() -> Result<(), Failure> + Send + use<> {
        let role = if way.role == "network" {
            Role::Network
        } else {
            Role::Hypervisor
        };
        let node = gate::Node {
            fqdn: fqdn.to_owned(),
            role,
            instance_id: self.own.clone(),
        };
        let dsn = dsn(&self.name, self.nodes.port);
        move || {
            let connector = connector(&dsn);
            let image = image(8);
            let tell = &mut |_: &str| {};
            let pass = gate::pass(&connector, &image, &node, "boot-1", within(20), tell);
            block_on(pass).map(drop)
        }
    }

    /// The rows, the same on all servers.
    fn rows(&mut self) -> Rows {
        let name = self.name.clone();
        let [first, rest @ ..] = &mut self.admins[..] else {
            panic!("no server");
        };
        let rows = ways::rows(first, &name);
        for other in rest {
            assert_eq!(ways::rows(other, &name), rows);
        }
        rows
    }

    fn everything(&mut self) -> Vec<Everything> {
        let name = &self.name;
        let each = self.admins.iter_mut().map(|admin| Everything {
            definitions: definitions(admin, name),
            rows: dump(admin, name),
            committed: admin.rows("SHOW GLOBAL STATUS LIKE 'wsrep_last_committed'"),
        });
        each.collect()
    }
}

/// Tries it again where the machine was too slow to tell anything.
fn in_time(at: &str, mut attempt: impl FnMut() -> bool) {
    assert!((0..6).any(|_| attempt()), "{at}: always held up");
}

fn make_cluster(node: &Node) {
    let ran = node.at_desk(&["bootstrap-cluster", "--role", "database-tier"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn check(node: &Node, role: &str) -> Ran {
    node.at_desk(&["check", "--json", "--role", role])
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr))
}

/// The parts of a first boot, and whether they were rehearsed.
fn rehearsal(ran: &Ran) -> Vec<Value> {
    let report = json(ran);
    let parts = report["forecast"]["rehearsal"].as_array();
    parts.unwrap_or_else(|| panic!("{report}")).clone()
}

/// The commands of a rehearsal's last transaction, by number.
fn transaction(commands: &[String]) -> RangeInclusive<usize> {
    let place = |what: &str| commands.iter().rposition(|c| c.ends_with(what)).unwrap() + 1;
    place("START TRANSACTION")..=place("ROLLBACK")
}
