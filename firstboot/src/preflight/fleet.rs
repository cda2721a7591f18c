//! Checks of this node's place among the others: its role's claim, its name,
//! the cluster that it belongs to. They read.

use super::{Context, Found};
use crate::claim::{self, Step};
use crate::codes;
use crate::database;
use crate::engine;
use crate::failure::Failure;
use crate::gate;
use crate::state;

/// What the database says about versions, nodes and claims; read once for all
/// checks. `None` when the database cannot be reached.
pub(super) async fn facts<'f>(
    context: &'f mut Context<'_>,
) -> Result<Option<&'f gate::Facts>, Failure> {
    if context.facts.is_none()
        && let Some(session) = &mut context.session
    {
        let node = context.node;
        let (fqdn, series) = (&node.metadata().node.name, node.gate_image().series);
        context.facts = Some(gate::facts(session, fqdn, series).await?);
    }
    Ok(context.facts.as_ref())
}

/// Whose passage of the gate the checks are about.
pub(super) fn candidate(context: &Context<'_>) -> gate::Candidate {
    let node = context.node.gate_node(context.paths);
    if context.on_node {
        gate::Candidate::Here(node)
    } else {
        gate::Candidate::Named(node)
    }
}

/// The node as the gate is going to see it. `None` when the database cannot be
/// reached.
pub(super) async fn standing(context: &mut Context<'_>) -> Result<Option<gate::Node>, Failure> {
    let candidate = candidate(context);
    let facts = facts(context).await?;
    Ok(facts.map(|facts| candidate.standing(facts)))
}

/// May this machine have its name and its role?
pub(super) async fn role_claim(context: &mut Context<'_>) -> Result<Found, Failure> {
    let Some(node) = standing(context).await? else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let Some(facts) = facts(context).await? else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    Ok(match claim::judge(&node, facts) {
        Ok(Step::Nothing) => Found::passed(),
        Ok(Step::Take { role }) => {
            Found::noted(format!("nobody holds the {role} role; this node takes it"))
        }
        Ok(Step::Keep {
            role,
            resumed: false,
            ..
        }) => Found::noted(format!("this node holds the {role} role")),
        Ok(Step::Keep { role, .. }) => Found::noted(format!(
            "this machine holds the {role} role, and keeps it with its new disk"
        )),
        Ok(Step::Leave { roles }) => Found::noted(format!(
            "this node gives up what it held: {}",
            roles.join(", ")
        )),
        Err(failure) => Found::Failed {
            findings: vec![*failure],
        },
    })
}

/// Does the metadata name the node that holds the network role?
pub(super) async fn network_node(context: &mut Context<'_>) -> Result<Found, Failure> {
    let node = context.node;
    let cluster = &node.metadata().cluster;
    let Some(named) = &cluster.network_node else {
        return Ok(Found::skipped("cluster.network_node is not set"));
    };
    let Some(facts) = facts(context).await? else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let Some(claim) = facts
        .claims
        .iter()
        .find(|claim| claim.role == claim::NETWORK)
    else {
        return Ok(Found::skipped("no node holds the network role yet"));
    };
    let own = &node.metadata().node;
    let address = if claim.fqdn == own.name {
        own.mesh.address
    } else {
        cluster.hosts.get(&claim.fqdn).copied()
    };
    let fits = named.written.eq_ignore_ascii_case(&claim.fqdn)
        // An address may be right without our knowing whose it is.
        || address.map_or(named.written == named.address.to_string(), |address| address == named.address);
    if fits {
        return Ok(Found::passed());
    }
    let failure = Failure::new(
        &codes::NETWORK_NODE,
        format!(
            "cluster.network_node is {}, but {} holds the network role",
            named.written, claim.fqdn
        ),
    )
    .value(&named.written)
    .source("metadata field cluster.network_node")
    .next_command("sf-firstboot explain cluster.network_node");
    Ok(Found::Failed {
        findings: vec![failure],
    })
}

/// Is the cluster that this node belongs to still in the database, so that a
/// bootstrap would not make a second one?
pub(super) async fn membership(context: &mut Context<'_>) -> Result<Found, Failure> {
    let kept = match state::membership(context.paths) {
        Ok(Some(kept)) => Ok(kept),
        Ok(None) => {
            return Ok(Found::noted(
                "this node has not belonged to a cluster before",
            ));
        }
        Err(damaged) => Err(damaged),
    };
    let bootstraps = engine::bootstraps(context.node);
    let Some(session) = &mut context.session else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let (server, database) = (session.server().to_owned(), session.database().to_owned());
    let cluster = database::read_cluster(session).await?;
    let found = state::Membership::of(&cluster.operations);
    let kept = match kept {
        Ok(kept) => kept,
        // Only a bootstrap has to know; the end of the run writes it anew.
        Err(damaged) if found.is_some() || !bootstraps => {
            tracing::warn!(code = damaged.code.id, "{damaged}; it is made anew");
            return Ok(Found::noted(format!("{}; it is made anew", damaged.what)));
        }
        Err(damaged) => {
            return Ok(Found::Failed {
                findings: vec![damaged.next_command("sf-firstboot check")],
            });
        }
    };
    let name = identity_of(&kept);
    match found {
        Some(found) if found.is_of_cluster(&kept) => Ok(Found::noted(format!("still {name}"))),
        Some(found) => Ok(Found::noted(format!(
            "this node belonged to {name}; the database holds {}",
            identity_of(&found)
        ))),
        None if !bootstraps => Ok(Found::noted(format!(
            "{name} is not in the database; this node waits for it"
        ))),
        None => Ok(Found::Failed {
            findings: vec![
                Failure::new(
                    &codes::CLUSTER_LOST,
                    format!(
                        "this node belongs to {name}, and the database {database} on {server} \
                         holds no cluster"
                    ),
                )
                .source(context.paths.shown(&context.paths.state(state::MEMBERSHIP))),
            ],
        }),
    }
}

fn identity_of(membership: &state::Membership) -> String {
    format!(
        "the cluster that {} bootstrapped at {}",
        membership.bootstrapped_by,
        crate::clock::at(membership.bootstrapped_at)
    )
}
