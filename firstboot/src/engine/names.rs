//! What this node was called before: a renamed one leaves a row under its old
//! name, which holds a series that nobody runs.

use crate::database::Session;
use crate::gate;
use crate::paths::Paths;
use crate::state;

/// The names that this node has joined as, the present one last. Looks earlier ones
/// up, where there are any, and says which are still on record as this machine's.
pub(super) async fn joined_as(
    paths: &Paths,
    node: &gate::Node,
    mut session: Option<&mut Session>,
) -> Vec<String> {
    let kept = state::membership(paths).unwrap_or_else(|damaged| {
        tracing::warn!(
            code = damaged.code.id,
            "{damaged}; it is made anew, without the names that this node had before"
        );
        None
    });
    let mut names = Vec::new();
    for name in kept.map(|kept| kept.names).unwrap_or_default() {
        if name == node.fqdn {
            continue;
        }
        let machine = match &mut session {
            Some(session) => gate::machine_of(session, &name).await.ok(),
            None => None,
        };
        match machine {
            Some(Some(machine)) if machine == node.instance_id => {
                tracing::warn!(
                    "this machine is on record as {name}, too: where it was renamed for good, run \
                     `sf-firstboot cluster forget {name} --database-file FILE`, or its row holds \
                     a series that nobody runs"
                );
                names.push(name);
            }
            // Forgotten, or another machine's by now.
            Some(_) => {}
            None => names.push(name),
        }
    }
    names.push(node.fqdn.clone());
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_damaged_membership_is_told_before_it_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let node = gate::Node {
            fqdn: "n.example.com".into(),
            role: sf_contract::role::Role::Hypervisor,
            instance_id: "i".into(),
        };
        let said = || {
            let runtime = crate::database::runtime().unwrap();
            testing::logged(|| {
                let names = runtime.block_on(joined_as(&paths, &node, None));
                assert_eq!(names, ["n.example.com"]);
            })
        };
        assert_eq!(said(), "");
        let file = paths.state(state::MEMBERSHIP);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, [0; 40]).unwrap();
        let said = said();
        assert!(
            said.contains("WARN") && said.contains("it is made anew, without the names"),
            "{said}"
        );
    }
}
