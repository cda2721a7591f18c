//! What agents of these tests are told, and what a bootstrap leaves behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sf_contract::release::Schema;
use sf_contract::role::Role;
use sf_contract::secret::Secret;
use sf_firstboot::bootstrap::{Author, Inputs, Plan, Report, SystemKey};
use sf_firstboot::claim::Claim;
use sf_firstboot::database::Connector;
use sf_firstboot::failure::Failure;
use sf_firstboot::fleet::{self, Fleet, hand};
use sf_firstboot::gate::{Clearance, Image, Node};

use super::{Admin, block_on, connector};

/// The system key that tests bootstrap with.
pub(crate) const KEY: &str = "k3y-MARKER-secret";

/// Inputs of a plan with every kind of operation; the seed is left to the agent.
pub(crate) fn inputs() -> Inputs {
    Inputs {
        series: "0.7".parse().unwrap(),
        predecessor: Some("0.6".parse().unwrap()),
        release: "0.7.2".into(),
        auth_secret_seed: None,
        system_key: Some(SystemKey {
            name: "bootstrap".into(),
            secret: Secret::new(KEY),
        }),
        config: BTreeMap::from([
            ("DNS_SERVER".to_owned(), "9.9.9.9".into()),
            ("MAX_HYPERVISOR_MTU".to_owned(), 8950.into()),
        ]),
        whitelist: vec!["DNS_SERVER".into(), "MAX_HYPERVISOR_MTU".into()],
    }
}

/// Who bootstraps.
pub(crate) fn author(fqdn: &str) -> Author {
    Author {
        fqdn: fqdn.into(),
        agent_version: "0.1.0".into(),
        image_version: "0.7.2-1".into(),
    }
}

/// The fleet, as an operator sees it.
fn look(connector: &Connector) -> Fleet {
    block_on(async {
        // The server may still hold a connection that was closed a moment ago,
        // and allow no other.
        let session = connector.connect_until(within(20), &mut |_| {}).await;
        let mut session = session.unwrap();
        let fleet = fleet::read(&mut session).await.unwrap();
        session.close().await;
        fleet
    })
}

/// A node as an operator sees it.
pub(crate) fn seen(connector: &Connector, fqdn: &str) -> hand::Seen {
    hand::Seen::of(&look(connector), fqdn)
}

/// Who holds a role.
pub(crate) fn claim(connector: &Connector, role: &str) -> Option<Claim> {
    let claims = look(connector).claims;
    claims.into_iter().find(|claim| claim.role == role)
}

/// Forgets a node as it is now.
pub(crate) fn forget(
    connector: &Connector,
    fqdn: &str,
    author: &hand::Author,
) -> Result<bool, Failure> {
    let seen = seen(connector, fqdn);
    block_on(hand::forget(connector, &seen, author, within(10)))
}

/// A deadline in seconds from now.
pub(crate) fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Bootstraps with the given inputs.
pub(crate) fn bootstrap(connector: &Connector, inputs: Inputs) -> Result<Report, Vec<Failure>> {
    let plan = Plan::new(inputs)?;
    block_on(sf_firstboot::bootstrap::run(
        connector,
        &Schema::Agent,
        &plan,
        &author("db1.example"),
        within(20),
        &mut |_| {},
    ))
}

/// Bootstraps a database with [`inputs`] and returns its connector.
pub(crate) fn bootstrapped(dsn: &str) -> Connector {
    let connector = connector(dsn);
    bootstrap(&connector, inputs()).unwrap();
    connector
}

/// An image of series `0.<minor>` whose predecessor is the one before.
pub(crate) fn image(minor: u64) -> Image {
    Image {
        series: format!("0.{minor}").parse().unwrap(),
        predecessor: Some(format!("0.{}", minor - 1).parse().unwrap()),
        release: format!("0.{minor}.1"),
        image_version: format!("0.{minor}.1-1"),
    }
}

/// A hypervisor of that name.
pub(crate) fn node(fqdn: &str) -> Node {
    Node {
        fqdn: fqdn.into(),
        role: Role::Hypervisor,
        instance_id: format!("instance-of-{fqdn}"),
    }
}

/// Passes the gate.
pub(crate) fn pass(connector: &Connector, minor: u64, fqdn: &str) -> Result<Clearance, Failure> {
    block_on(sf_firstboot::gate::pass(
        connector,
        &image(minor),
        &node(fqdn),
        "boot-1",
        within(20),
        &mut |_| {},
    ))
}

/// Every row of every table of a database, in a stable order.
pub(crate) fn dump(admin: &mut Admin, database: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let tables = admin.rows(&format!(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = '{database}' ORDER BY 1"
    ));
    tables
        .into_iter()
        .map(|row| {
            let mut rows = admin.rows(&format!("SELECT * FROM `{database}`.`{}`", row[0]));
            rows.sort();
            (row[0].clone(), rows)
        })
        .collect()
}

/// The definition of every table of a database.
pub(crate) fn definitions(admin: &mut Admin, database: &str) -> Vec<String> {
    let tables = admin.rows(&format!(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = '{database}' ORDER BY 1"
    ));
    tables
        .into_iter()
        .map(|row| {
            admin.rows(&format!("SHOW CREATE TABLE `{database}`.`{}`", row[0]))[0][1].clone()
        })
        .collect()
}
