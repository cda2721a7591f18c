//! What becomes of a node's claim: a function of the facts alone.

use super::{Claim, claimed_by};
use crate::clock;
use crate::codes;
use crate::failure::Failure;
use crate::gate::{Facts, Node};
use crate::identity::same_machine;

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The node claims nothing and holds nothing.
    Nothing,
    /// Nobody holds what the node claims.
    Take {
        /// What is claimed.
        role: &'static str,
    },
    /// The node holds it already.
    Keep {
        /// What is claimed.
        role: &'static str,
        /// Since when, UNIX seconds.
        claimed_at: f64,
        /// The holder's disk was made anew: the same machine, another instance.
        resumed: bool,
    },
    /// The node holds what its role does not claim any more.
    Leave {
        /// What it gives up.
        roles: Vec<String>,
    },
}

/// May this machine run under its name and have what it claims? Reads and
/// writes nothing.
pub fn judge(node: &Node, facts: &Facts) -> Result<Step, Box<Failure>> {
    // A row without a series is of a machine that has never started anything.
    let other = facts
        .own
        .as_ref()
        .filter(|row| row.series.is_some() && !same_machine(&row.instance_id, &node.instance_id));
    if let Some(row) = other {
        return Err(Box::new(clone(node, &row.role, row.last_boot)));
    }
    let Some(role) = claimed_by(node.role) else {
        let roles: Vec<String> = facts
            .claims
            .iter()
            .filter(|claim| claim.fqdn == node.fqdn)
            .map(|claim| claim.role.clone())
            .collect();
        return Ok(if roles.is_empty() {
            Step::Nothing
        } else {
            Step::Leave { roles }
        });
    };
    match facts.claims.iter().find(|claim| claim.role == role) {
        None => Ok(Step::Take { role }),
        Some(claim) if claim.fqdn != node.fqdn => Err(Box::new(held(node, claim))),
        Some(claim) if same_machine(&claim.instance_id, &node.instance_id) => Ok(Step::Keep {
            role,
            claimed_at: claim.claimed_at,
            resumed: claim.instance_id != node.instance_id,
        }),
        Some(claim) => Err(Box::new(clone(node, &claim.role, claim.last_boot))),
    }
}

/// What FILE is: the user of this very node may not change the record.
const DESK: &str = "(FILE holds the DSN of an operator's database user: `sf-firstboot grants --operator` \
                    prints its grants; a database-tier node's DSN does too.)";

fn held(node: &Node, claim: &Claim) -> Failure {
    let renamed = same_machine(&claim.instance_id, &node.instance_id);
    let booted = claim.last_boot.map_or_else(
        || "which has not booted since it was forgotten".to_owned(),
        |at| format!("which last booted {}", clock::at(at)),
    );
    let failure = Failure::new(
        &codes::CLAIM_HELD,
        format!(
            "{} may not take the {} role: {}{} holds it since {}, {booted}",
            node.fqdn,
            claim.role,
            if renamed {
                "this same machine, as "
            } else {
                ""
            },
            claim.fqdn,
            clock::at(claim.claimed_at)
        ),
    )
    .value(&claim.fqdn)
    .source("table bootstrap_claims")
    .next_command("sf-firstboot cluster status");
    if renamed {
        return failure.remedy(format!(
            "Where it was renamed for good: run `sf-firstboot cluster forget {} --database-file \
             FILE`, then `systemctl restart sf-firstboot` here. Else give it its name back \
             (node.name). A machine called {} that runs is another one, with the same product UUID \
             or machine-id: do not forget it, and give this node another role. {DESK}",
            claim.fqdn, claim.fqdn
        ));
    }
    failure.remedy(format!(
        "Give this node an image of another role. Or, to move the role here: stop {} first, run \
         `sf-firstboot cluster release-claim {} --database-file FILE`, then `systemctl restart \
         sf-firstboot` on this node. {DESK}",
        claim.fqdn, claim.role
    ))
}

/// What people call a machine of that role.
fn called(role: &str) -> String {
    match role {
        "hypervisor" => "a hypervisor".into(),
        "single-node" => "a single node".into(),
        other => format!("a {other} node"),
    }
}

/// `role` and `last_boot` are the other machine's.
fn clone(node: &Node, role: &str, last_boot: Option<f64>) -> Failure {
    let name = &node.fqdn;
    let booted = last_boot
        .map(|at| format!(" that last booted {}", clock::at(at)))
        .unwrap_or_default();
    Failure::new(
        &codes::NODE_CLONE,
        format!(
            "another machine, {}{booted}, has joined the cluster as {name}",
            called(role)
        ),
    )
    .value(name)
    .source("metadata field node.name")
    .remedy(format!(
        "If this machine replaces that one, and that one is off for good: run \
         `sf-firstboot cluster forget {name} --database-file FILE`, then `systemctl restart \
         sf-firstboot` here. If that one is alive, this is a copy of its disk or metadata: give \
         this node a name of its own. They are told apart by the firmware's product UUID, \
         or else by machine-id. {DESK}"
    ))
    .next_command("sf-firstboot cluster status")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::NodeRow;
    use sf_contract::role::Role;

    fn node(fqdn: &str, role: Role, machine: &str) -> Node {
        Node {
            fqdn: fqdn.into(),
            role,
            instance_id: machine.into(),
        }
    }

    fn claim(fqdn: &str, machine: &str) -> Claim {
        Claim {
            role: "network".into(),
            fqdn: fqdn.into(),
            instance_id: machine.into(),
            claimed_at: 1000.5,
            last_boot: Some(2000.0),
        }
    }

    fn row(machine: &str, passed: bool) -> NodeRow {
        NodeRow {
            series: passed.then(|| "0.7".parse().unwrap()),
            instance_id: machine.into(),
            role: "hypervisor".into(),
            last_boot: Some(2000.0),
        }
    }

    fn word(result: Result<Step, Box<Failure>>) -> String {
        match result {
            Ok(Step::Nothing) => "nothing".into(),
            Ok(Step::Take { .. }) => "take".into(),
            Ok(Step::Keep { resumed, .. }) => format!("keep, resumed {resumed}"),
            Ok(Step::Leave { roles }) => format!("leave {}", roles.join(",")),
            Err(failure) => failure.code.id.into(),
        }
    }

    #[test]
    fn every_case_has_its_answer() {
        use Role::{DatabaseTier, Hypervisor, Network, SingleNode};
        type Case<'c> = (Role, &'c str, Option<&'c NodeRow>, &'c [Claim], &'c str);
        let mine = row("disk/hw", true);
        let table: &[Case<'_>] = &[
            (Hypervisor, "disk/hw", None, &[], "nothing"),
            (
                DatabaseTier,
                "disk/hw",
                Some(&mine),
                &[claim("m", "x")],
                "nothing",
            ),
            (Network, "disk/hw", None, &[], "take"),
            (SingleNode, "disk/hw", None, &[], "take"),
            (
                Network,
                "disk/hw",
                Some(&mine),
                &[claim("n", "disk/hw")],
                "keep, resumed false",
            ),
            // A new disk in the same machine.
            (
                Network,
                "new/hw",
                Some(&mine),
                &[claim("n", "disk/hw")],
                "keep, resumed true",
            ),
            (
                Network,
                "disk/hw",
                None,
                &[claim("m", "x")],
                "SF-CLAIM-HELD",
            ),
            (
                SingleNode,
                "disk/hw",
                None,
                &[claim("m", "x")],
                "SF-CLAIM-HELD",
            ),
            // A copied disk in another machine.
            (
                Network,
                "copy/other",
                Some(&mine),
                &[claim("n", "disk/hw")],
                "SF-NODE-CLONE",
            ),
            (Hypervisor, "copy/other", Some(&mine), &[], "SF-NODE-CLONE"),
            (
                Network,
                "copy/other",
                None,
                &[claim("n", "disk/hw")],
                "SF-NODE-CLONE",
            ),
            // That machine never came further than a refusal.
            (
                Hypervisor,
                "copy/other",
                Some(&row("disk/hw", false)),
                &[],
                "nothing",
            ),
            // Another role than before.
            (
                Hypervisor,
                "disk/hw",
                Some(&mine),
                &[claim("n", "disk/hw")],
                "leave network",
            ),
        ];
        for (role, machine, own, claims, expected) in table {
            let facts = Facts {
                own: own.cloned(),
                claims: claims.to_vec(),
                ..Facts::default()
            };
            let found = word(judge(&node("n", *role, machine), &facts));
            assert_eq!(found, *expected, "{role} {machine} {own:?} {claims:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_holder_and_the_way_out() {
        let facts = Facts {
            claims: vec![claim("net1.example.com", "x")],
            ..Facts::default()
        };
        let failure = judge(&node("net2.example.com", Role::Network, "y"), &facts).unwrap_err();
        insta::assert_snapshot!(failure.what, @"net2.example.com may not take the network role: net1.example.com holds it since 1970-01-01 00:16:40 UTC, which last booted 1970-01-01 00:33:20 UTC");
        insta::assert_snapshot!(failure.remedy_text(), @"Give this node an image of another role. Or, to move the role here: stop net1.example.com first, run `sf-firstboot cluster release-claim network --database-file FILE`, then `systemctl restart sf-firstboot` on this node. (FILE holds the DSN of an operator's database user: `sf-firstboot grants --operator` prints its grants; a database-tier node's DSN does too.)");
        let facts = Facts {
            own: Some(row("a/b", true)),
            ..Facts::default()
        };
        let failure = judge(&node("hv5", Role::Hypervisor, "c/d"), &facts).unwrap_err();
        insta::assert_snapshot!(failure.what, @"another machine, a hypervisor that last booted 1970-01-01 00:33:20 UTC, has joined the cluster as hv5");
        assert_eq!(failure.source.as_deref(), Some("metadata field node.name"));
        assert!(failure.remedy_text().contains("cluster forget hv5"));
        // Forgotten, but for its claim.
        let facts = Facts {
            claims: vec![Claim {
                last_boot: None,
                ..claim("net1", "a/b")
            }],
            ..Facts::default()
        };
        let failure = judge(&node("net1", Role::Network, "c/d"), &facts).unwrap_err();
        assert_eq!(
            failure.what,
            "another machine, a network node, has joined the cluster as net1"
        );
        // Renamed: by the same hardware, whatever the disk.
        let facts = Facts {
            claims: vec![claim("net1", "a/b")],
            ..Facts::default()
        };
        let failure = judge(&node("gw", Role::Network, "new/b"), &facts).unwrap_err();
        assert!(
            failure.what.contains("this same machine, as net1 holds it"),
            "{failure}"
        );
        let remedy = failure.remedy_text();
        assert!(
            remedy.contains("cluster forget net1 --database-file FILE")
                && !remedy.contains("stop net1"),
            "{remedy}"
        );
    }
}
