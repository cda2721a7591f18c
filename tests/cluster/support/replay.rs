//! Histories of the model, and races for a role, on real servers: one, or the
//! several of a Galera cluster, by a list of connectors.

use std::sync::Barrier;

use sf_contract::role::Role;
use sf_firstboot::bootstrap::Inputs;
use sf_firstboot::database::Connector;
use sf_firstboot::failure::Failure;
use sf_firstboot::fleet::hand;
use sf_firstboot::gate::{self, May, Node};

use super::history::{Cluster, Ended, Event, Minor, Record, asking, clearance, name, refusal};
use super::metadata::{bootstrap, image, inputs, pass, within};
use super::{Admin, block_on};

/// Events of one history.
const STEPS: usize = 30;

/// Starts `rivals` nodes at once that all claim the network role, spread over
/// the servers; the winner's name. Every other one is refused with it.
pub(crate) fn one_holder(connectors: &[Connector], rivals: usize, minor: Minor) -> String {
    let barrier = Barrier::new(rivals);
    let results: Vec<Result<String, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..rivals)
            .map(|index| {
                let (connector, barrier) = (&connectors[index % connectors.len()], &barrier);
                scope.spawn(move || {
                    let node = Node {
                        fqdn: format!("net{index}"),
                        role: if index % 2 == 0 {
                            Role::Network
                        } else {
                            Role::SingleNode
                        },
                        instance_id: format!("m{index}"),
                    };
                    barrier.wait();
                    block_on(gate::pass(
                        connector,
                        &image(minor),
                        &node,
                        "boot-1",
                        within(30),
                        &mut |_| {},
                    ))
                    .map(|cleared| cleared.record().fqdn.clone())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let winners: Vec<&String> = results.iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for failure in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(failure.code.id, "SF-CLAIM-HELD", "{failure}");
        assert_eq!(failure.kind().exit_code(), 77);
        assert!(failure.what.contains(winners[0].as_str()), "{failure}");
        assert!(failure.remedy_text().contains("release-claim network"));
    }
    winners[0].clone()
}

/// One history, its steps spread over the servers that the connectors lead to.
pub(crate) fn history(
    connectors: &[Connector],
    admin: &mut Admin,
    database: &str,
    random: &mut Random,
    nodes: usize,
) {
    let mut cluster = Cluster::new(7);
    let mut told = Vec::new();
    for step in 0..STEPS {
        let connector = &connectors[step % connectors.len()];
        // Mostly neighbours, so that histories go somewhere.
        let event = match random.below(13) {
            0 => Event::Off(random.below(nodes)),
            1 => Event::Forget(random.below(nodes)),
            2 | 3 => Event::Restart(random.below(nodes)),
            12 => Event::Outage(random.below(nodes)),
            // The node's own memory is no part of the database: whoever makes a
            // cluster here has none.
            _ if cluster.record.is_none() => {
                let node = random.below(nodes);
                cluster.members.remove(&node);
                Event::Bootstrap(node, 6 + random.below(4) as Minor)
            }
            4 => Event::Backup,
            5 => Event::Restore,
            6 if random.below(3) == 0 => Event::Lose,
            _ => Event::Boot(random.below(nodes), 6 + random.below(4) as Minor),
        };
        if !cluster.possible(event) {
            continue;
        }
        told.push(event);
        let before = cluster.clone();
        let expected = cluster.apply(event);
        let found = really(connector, admin, database, event, &before, &cluster);
        assert_eq!(found, expected, "{told:?}");
        if let Some(record) = &cluster.record {
            assert_eq!(held(admin, database), *record, "{told:?}");
        }
    }
}

fn really(
    connector: &Connector,
    admin: &mut Admin,
    database: &str,
    event: Event,
    before: &Cluster,
    after: &Cluster,
) -> Ended {
    match event {
        Event::Boot(node, minor) => ended(pass(connector, minor, &name(node)).map(drop)),
        Event::Bootstrap(node, minor) => {
            let image = image(minor);
            let inputs = Inputs {
                series: image.series,
                predecessor: image.predecessor,
                release: image.release,
                ..inputs()
            };
            match bootstrap(connector, inputs) {
                Ok(_) => ended(pass(connector, minor, &name(node)).map(drop)),
                Err(failures) => Ended::Stopped(failures[0].code.id),
            }
        }
        Event::Lose => {
            admin.run("SET foreign_key_checks = 0");
            for table in admin.rows(&format!(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = '{database}'"
            )) {
                admin.run(&format!("DROP TABLE `{database}`.`{}`", table[0]));
            }
            admin.run("SET foreign_key_checks = 1");
            Ended::Well
        }
        Event::Forget(node) => {
            let author = hand::Author {
                user: "u".into(),
                host: "h".into(),
            };
            let gone = name(node);
            assert!(super::metadata::forget(connector, &gone, &author).unwrap());
            Ended::Well
        }
        Event::Restart(node) | Event::Outage(node) => {
            let minor = before.cleared(node).unwrap();
            let facts = matches!(event, Event::Restart(_)).then(|| {
                block_on(async {
                    let mut session = connector.connect().await.unwrap();
                    gate::facts(&mut session, &name(node), image(minor).series)
                        .await
                        .unwrap()
                })
            });
            let may = gate::restart(
                &image(minor),
                &asking(node),
                (
                    Some(&clearance(node, minor)),
                    before.refused.contains_key(&node).then(refusal).as_ref(),
                ),
                "boot-1",
                facts.as_ref(),
            );
            match may {
                Ok(May::Unrecorded) => ended(pass(connector, minor, &name(node)).map(drop)),
                Ok(_) => Ended::Well,
                Err(failure) => Ended::Stopped(failure.code.id),
            }
        }
        Event::Restore => {
            write(admin, database, after.record.as_ref().unwrap());
            Ended::Well
        }
        Event::Off(_) | Event::Backup | Event::Reset(_) => Ended::Well,
    }
}

fn ended(result: Result<(), Failure>) -> Ended {
    result.map_or_else(|failure| Ended::Stopped(failure.code.id), |()| Ended::Well)
}

pub(crate) fn held(admin: &mut Admin, database: &str) -> Record {
    let minor = |series: &str| series.rsplit_once('.').unwrap().1.parse().unwrap();
    let mut record = Record::default();
    for row in admin.rows(&format!(
        "SELECT slot, series FROM `{database}`.cluster_series"
    )) {
        record.slots[row[0].parse::<usize>().unwrap()] = Some(minor(&row[1]));
    }
    for row in admin.rows(&format!(
        "SELECT fqdn, series FROM `{database}`.bootstrap_nodes"
    )) {
        record
            .rows
            .insert(row[0][1..].parse().unwrap(), minor(&row[1]));
    }
    record
}

/// What a restored backup holds.
fn write(admin: &mut Admin, database: &str, record: &Record) {
    admin.run(&format!(
        "DELETE FROM `{database}`.bootstrap_nodes; DELETE FROM `{database}`.cluster_series"
    ));
    for (slot, minor) in record.slots.iter().enumerate() {
        if let Some(minor) = minor {
            admin.run(&format!(
                "INSERT INTO `{database}`.cluster_series VALUES \
                 ({slot}, '0.{minor}', '0.{}', '0.{minor}.1', 0, 'x')",
                minor - 1
            ));
        }
    }
    for (node, minor) in &record.rows {
        admin.run(&format!(
            "INSERT INTO `{database}`.bootstrap_nodes VALUES ('{0}', 'hypervisor', '0.{minor}', \
             '0.{minor}.1', '0.{minor}.1-1', 'instance-of-{0}', 'start', 'started', 0, NULL)",
            name(*node)
        ));
    }
}

/// Numbers that are the same in every run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}
