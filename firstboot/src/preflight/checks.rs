//! The registry: what is checked, in which order, and what it may find.

use super::{
    Check, Found, Running, Severity, clock, cluster, fleet, machine, network, pki, settings,
};
use crate::codes;
use crate::failure::Failure;

/// All checks, cheap ones first: what they find makes waiting for the
/// database pointless.
pub static CHECKS: &[Check] = &[
    Check {
        id: "settings",
        severity: Severity::Blocks,
        about: "every setting that the release needs has a value that its file can hold",
        codes: &[&codes::CONFIG_MISSING, &codes::CONFIG_VALUE],
        run: |context| now(Ok(settings::render(context))),
    },
    Check {
        id: "bootstrap-plan",
        severity: Severity::Blocks,
        about: "what is to be established in the cluster is acceptable",
        codes: &[
            &codes::BOOTSTRAP_KEY,
            &codes::BOOTSTRAP_SEED,
            &codes::BOOTSTRAP_CONFIG,
        ],
        run: |context| now(Ok(settings::plan(context))),
    },
    Check {
        id: "pki",
        severity: Severity::Blocks,
        about: "certificates parse, come from their authority, are in date, name this node, fit their key and use",
        codes: &[
            &codes::PKI_SYNTAX,
            &codes::PKI_DER,
            &codes::PKI_ENCRYPTED,
            &codes::PKI_ORDER,
            &codes::PKI_CHAIN,
            &codes::PKI_EXPIRED,
            &codes::PKI_NOT_YET_VALID,
            &codes::PKI_NAME,
            &codes::PKI_KEY_MISMATCH,
            &codes::PKI_USAGE,
        ],
        run: |context| now(Ok(pki::sound(context))),
    },
    Check {
        id: "pki-upkeep",
        severity: Severity::Warns,
        about: "certificates last for 30 days more, the consoles' names this node, and the files of keys are root's alone",
        codes: &[&codes::PKI_EXPIRING, &codes::PKI_NAME, &codes::PKI_MODE],
        run: |context| now(Ok(pki::lasting(context))),
    },
    Check {
        id: "disk-space",
        severity: Severity::Blocks,
        about: "there is room for state and logs: 256 MiB on /var and on /srv",
        codes: &[&codes::DISK_FULL, &codes::CHECK_IMPOSSIBLE],
        run: |context| now(machine::disk_space(context)),
    },
    Check {
        id: "memory",
        severity: Severity::Warns,
        about: "there are 2 GiB for the daemons, and more than is kept from instances",
        codes: &[&codes::MEMORY_LOW, &codes::CHECK_IMPOSSIBLE],
        run: |context| now(machine::memory(context)),
    },
    Check {
        id: "kvm",
        severity: Severity::Warns,
        about: "a node that runs instances has a processor and a kernel that virtualise",
        codes: &[&codes::KVM_MISSING, &codes::CHECK_IMPOSSIBLE],
        run: |context| now(machine::kvm(context)),
    },
    Check {
        id: "addresses",
        severity: Severity::Warns,
        about: "the addresses and interfaces of the metadata are this node's",
        codes: &[
            &codes::ADDRESS_MISSING,
            &codes::INTERFACE_MISSING,
            &codes::CHECK_IMPOSSIBLE,
        ],
        run: |context| now(network::addresses(context)),
    },
    Check {
        id: "mtu",
        severity: Severity::Warns,
        about: "the mesh's interface carries 2000 bytes, and as many as cluster.max_hypervisor_mtu says",
        codes: &[&codes::MTU_SMALL, &codes::CHECK_IMPOSSIBLE],
        run: |context| now(network::mtu(context)),
    },
    Check {
        id: "clock",
        severity: Severity::Blocks,
        about: "the clock is not before the time at which the image was made",
        codes: &[&codes::CLOCK_WRONG],
        run: |context| now(Ok(clock::plausible(context))),
    },
    Check {
        id: "database",
        severity: Severity::Blocks,
        about: "the database resolves, answers, speaks TLS as the DSN demands, lets the user in, is MariaDB, new enough, set up right",
        codes: &[
            &codes::DB_RESOLVE,
            &codes::DB_UNREACHABLE,
            &codes::DB_REFUSED,
            &codes::DB_TIMEOUT,
            &codes::DB_LOST,
            &codes::DB_BUSY,
            &codes::DB_NOT_READY,
            &codes::DB_READ_ONLY,
            &codes::DB_TLS_CA,
            &codes::DB_TLS_ABSENT,
            &codes::DB_TLS_ISSUER,
            &codes::DB_TLS_EXPIRED,
            &codes::DB_TLS_NOT_YET_VALID,
            &codes::DB_TLS_NAME,
            &codes::DB_TLS_PROTOCOL,
            &codes::DB_TLS,
            &codes::DB_AUTH,
            &codes::DB_AUTH_PLUGIN,
            &codes::DB_BLOCKED,
            &codes::DB_MISSING,
            &codes::DB_GRANTS,
            &codes::DB_NOT_MARIADB,
            &codes::DB_TOO_OLD,
            &codes::DB_CHARSET,
            &codes::DB_ENGINE,
            &codes::DB_SCHEMA_MISSING,
            &codes::DB_SCHEMA,
            &codes::DB_SCHEMA_OLD,
            &codes::DB_SCHEMA_NEW,
        ],
        run: |context| Box::pin(cluster::database(context)),
    },
    Check {
        id: "database-upkeep",
        severity: Severity::Warns,
        about: "the database server has connections to spare, and its Galera node is not lent to another",
        codes: &[&codes::DB_CONNECTIONS, &codes::DB_DONOR],
        run: |context| Box::pin(cluster::upkeep(context)),
    },
    Check {
        id: "clock-skew",
        severity: Severity::Warns,
        about: "the database server's clock is within 5 s of this one",
        codes: &[&codes::CLOCK_SKEW],
        run: |context| Box::pin(clock::agrees(context)),
    },
    Check {
        id: "membership",
        severity: Severity::Blocks,
        about: "the cluster that this node belongs to is still there",
        codes: &[&codes::CLUSTER_LOST],
        run: |context| Box::pin(fleet::membership(context)),
    },
    Check {
        id: "bootstrap",
        severity: Severity::Blocks,
        about: "what the bootstrap would do, rehearsed and rolled back",
        codes: &[
            &codes::BOOTSTRAP_CONTRADICTION,
            &codes::BOOTSTRAP_DAMAGED,
            &codes::GATE_VERSION,
            &codes::DB_SCHEMA,
        ],
        run: |context| Box::pin(cluster::rehearsal(context)),
    },
    Check {
        id: "versions",
        severity: Severity::Blocks,
        about: "this image's release may run beside the cluster's",
        codes: &[&codes::GATE_VERSION, &codes::GATE_RECORD],
        run: |context| Box::pin(cluster::versions(context)),
    },
    Check {
        id: "role-claim",
        severity: Severity::Blocks,
        about: "no other machine has this node's name, and none holds its role",
        codes: &[&codes::CLAIM_HELD, &codes::NODE_CLONE],
        run: |context| Box::pin(fleet::role_claim(context)),
    },
    Check {
        id: "network-node",
        severity: Severity::Warns,
        about: "the metadata names the node that holds the network role",
        codes: &[&codes::NETWORK_NODE],
        run: |context| Box::pin(fleet::network_node(context)),
    },
];

/// A check that waits for nothing.
fn now<'r>(found: Result<Found, Failure>) -> Running<'r> {
    Box::pin(std::future::ready(found))
}
