//! What is kept of a refusal, so that a daemon that the record speaks against
//! does not start as soon as the record cannot be asked.

use serde::{Deserialize, Serialize};

use crate::codes::{self, Code};
use crate::failure::Failure;

/// What the gate itself refuses with. Other refusals of a run (a contradiction
/// of the bootstrap's, a lost cluster) are nothing that it holds against daemons.
const OF_THE_GATE: [&Code; 4] = [
    &codes::GATE_VERSION,
    &codes::GATE_RECORD,
    &codes::CLAIM_HELD,
    &codes::NODE_CLONE,
];

/// A refusal of this boot. It belongs under /run, and the next Proceed from a
/// database that answers takes it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `/proc/sys/kernel/random/boot_id` of the boot that it counts for.
    pub boot_id: String,
    code: String,
    what: String,
    value: Option<String>,
    source: Option<String>,
    remedy: Option<String>,
    next_command: Option<String>,
}

impl Refusal {
    /// What to keep of a failure; `None` when it is no refusal of the gate's.
    pub fn of(failure: &Failure, boot_id: &str) -> Option<Self> {
        let refused = OF_THE_GATE.iter().any(|code| code.id == failure.code.id);
        refused.then(|| Self {
            boot_id: boot_id.to_owned(),
            code: failure.code.id.to_owned(),
            what: failure.what.clone(),
            value: failure.value.clone(),
            source: failure.source.clone(),
            remedy: failure.remedy.clone(),
            next_command: failure.next_command.clone(),
        })
    }

    /// The same failure again.
    pub fn failure(&self) -> Failure {
        let code = OF_THE_GATE.into_iter().find(|code| code.id == self.code);
        let mut failure = Failure::new(code.unwrap_or(&codes::GATE_RECORD), &self.what).because(
            "the cluster's record said so earlier during this boot, and nothing else since",
        );
        failure.value.clone_from(&self.value);
        failure.source.clone_from(&self.source);
        failure.remedy.clone_from(&self.remedy);
        failure.next_command.clone_from(&self.next_command);
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_its_file_with_its_reason() {
        let failure = Failure::new(&codes::CLAIM_HELD, "net2 holds it")
            .value("net2")
            .source("table bootstrap_claims")
            .remedy("Stop net2.")
            .next_command("sf-firstboot cluster status");
        let kept = Refusal::of(&failure, "b").unwrap();
        let text = serde_json::to_string(&kept).unwrap();
        let again: Refusal = serde_json::from_str(&text).unwrap();
        assert_eq!(again, kept);
        let mut again = again.failure();
        assert!(
            again
                .causes
                .pop()
                .unwrap()
                .contains("earlier during this boot")
        );
        assert_eq!(
            serde_json::to_value(&again).unwrap(),
            serde_json::to_value(&failure).unwrap()
        );
        for code in [&codes::GATE_WAITING, &codes::BOOTSTRAP_CONTRADICTION] {
            assert_eq!(Refusal::of(&Failure::new(code, "x"), "b"), None);
        }
    }
}
