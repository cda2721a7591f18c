//! The network role is released, and taken by another node, while its holder
//! stands at a command of its passage: for every command in turn. Whoever is
//! cleared for the role last is who holds it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sf_command::Cmd;
use sf_contract::role::Role;
use sf_firstboot::failure::Failure;
use sf_firstboot::gate::{self, Node};

use super::lot::Barrier;
use super::metadata::{bootstrapped, image, within};
use super::proxy::{At, Proxy, Side, Then};
use super::{Admin, block_on, connector, dsn, dsn_at};

/// The holder and who takes the role after it.
const HOLDER: &str = "net1";
const HEIR: &str = "net2";

/// A bootstrapped database on two servers, or on one.
pub(crate) struct Ground {
    name: String,
    proxy: Proxy,
    second: SocketAddr,
    admin: Admin,
    desk: tempfile::TempDir,
}

impl Ground {
    /// The holder's connections go to `first`, those of everybody else to `second`.
    pub(crate) fn new(name: &str, first: SocketAddr, second: SocketAddr, mut admin: Admin) -> Self {
        let dsn = dsn_at(name, second);
        bootstrapped(&dsn);
        let desk = tempfile::tempdir().unwrap();
        std::fs::write(desk.path().join("dsn"), dsn).unwrap();
        // What both servers agree on by now.
        admin.run("SET SESSION wsrep_sync_wait = 7");
        admin.run(&format!("USE `{name}`"));
        Self {
            name: name.to_owned(),
            proxy: Proxy::before(first),
            second,
            admin,
            desk,
        }
    }

    /// Both sides of every command of the holder's passage, with an heir and
    /// without; how many points.
    pub(crate) fn hand_over(&mut self) -> usize {
        self.reset();
        self.proxy.arm(usize::MAX, Side::Before, || {});
        self.holder_passes().unwrap();
        let commands = self.proxy.log();
        let find = |what: &str| commands.iter().position(|c| c.contains(what)).unwrap() + 1;
        let commit = commands.iter().position(|c| c.ends_with("COMMIT")).unwrap() + 1;
        let mut points = 0;
        for number in find("SELECT CAST(slot")..=commit {
            for side in [Side::Before, Side::After] {
                for heir in [false, true] {
                    let at = format!("{side:?} {}, heir {heir}", commands[number - 1]);
                    let committed = number == commit && side == Side::After;
                    self.try_at(At::Command(number), side, (heir, committed), &at);
                    points += 1;
                }
            }
        }
        points
    }

    fn try_at(&mut self, point: At, side: Side, (heir, committed): (bool, bool), at: &str) {
        self.reset();
        let barrier = Arc::new(Barrier::default());
        let hold = Arc::clone(&barrier);
        self.proxy.arm_then(point, side, move || {
            hold.park(0);
            Then::Pass
        });
        let (passed, (released, inherited), meanwhile) = thread::scope(|scope| {
            let holder = scope.spawn(|| self.holder_passes());
            while !barrier.wait_for(1) {
                assert!(!holder.is_finished(), "{at}: not reached");
            }
            let others = scope.spawn(|| {
                let released = self.release(at);
                (released, heir.then(|| self.passes(HEIR)))
            });
            // They may have to wait for a lock that the holder has.
            let patience = Instant::now() + Duration::from_secs(2);
            while !others.is_finished() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(2));
            }
            let meanwhile = others.is_finished();
            barrier.open();
            (holder.join().unwrap(), others.join().unwrap(), meanwhile)
        });
        assert!(!self.proxy.disarm(), "{at}");
        let claims = self.admin.rows("SELECT role, fqdn FROM bootstrap_claims");
        let events = self.admin.cell("SELECT COUNT(*) FROM bootstrap_events");
        let at = format!(
            "{at}: released {released} meanwhile {meanwhile}, {passed:?}, {inherited:?}: {claims:?}"
        );
        assert_eq!(events, u8::from(released).to_string(), "{at}");
        let held_by = |name: &str| claims == [["network", name]];
        let cleared = |result: &Result<(), Failure>| match result {
            Ok(()) => true,
            Err(failure) => {
                assert_eq!(failure.code.id, "SF-CLAIM-HELD", "{at}");
                false
            }
        };
        match inherited.as_ref().map(cleared) {
            // The release came before the passage's end, so the passage took the
            // role anew; or behind it, and nobody has it.
            None => {
                assert!(cleared(&passed), "{at}");
                let late = committed || !meanwhile;
                assert!(
                    held_by(HOLDER) || (late && released && claims.is_empty()),
                    "{at}"
                );
                assert!(!committed || claims.is_empty(), "{at}");
            }
            Some(true) => {
                assert!(held_by(HEIR), "{at}");
                assert!(
                    !cleared(&passed) || committed || !meanwhile,
                    "{at}: both are cleared"
                );
            }
            Some(false) => assert!(cleared(&passed) && held_by(HOLDER), "{at}"),
        }
    }

    fn reset(&mut self) {
        self.admin.run("DELETE FROM bootstrap_claims; DELETE FROM bootstrap_nodes; DELETE FROM bootstrap_events");
        self.passes(HOLDER).unwrap();
    }

    fn holder_passes(&self) -> Result<(), Failure> {
        pass(&dsn(&self.name, self.proxy.port), HOLDER)
    }

    fn passes(&self, fqdn: &str) -> Result<(), Failure> {
        pass(&dsn_at(&self.name, self.second), fqdn)
    }

    /// By the operator's own command. `false` where it says that it did nothing.
    fn release(&self, at: &str) -> bool {
        let ran = Cmd::path(env!("CARGO_BIN_EXE_sf-firstboot"))
            .arg("--root")
            .arg(self.desk.path())
            .args([
                "cluster",
                "release-claim",
                "network",
                "--yes",
                "--database-file",
            ])
            .arg(self.desk.path().join("dsn"))
            .timeout(Duration::from_mins(1))
            .run();
        let said = format!("{ran:?}");
        assert!(
            ran.is_ok() || said.contains("SF-CLAIM-FREE"),
            "{at}: {said}"
        );
        ran.is_ok()
    }
}

fn pass(dsn: &str, fqdn: &str) -> Result<(), Failure> {
    let node = Node {
        fqdn: fqdn.into(),
        role: Role::Network,
        instance_id: format!("machine-of-{fqdn}"),
    };
    let connector = connector(dsn);
    block_on(gate::pass(
        &connector,
        &image(7),
        &node,
        "boot-1",
        within(30),
        &mut |_| {},
    ))
    .map(drop)
}
