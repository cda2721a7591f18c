//! What the documents and the codes' remedies tell people to type.

use super::node::Node;

#[path = "../documented.rs"]
mod documents;

#[test]
fn every_command_in_the_documents_is_taken() {
    let node = Node::new("hypervisor");
    let calls = documents::calls("sf-firstboot");
    assert!(calls.len() > 30, "only {} were found", calls.len());
    for call in calls {
        let mut arguments: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
        // Asked for its help, a command does nothing, and yet reads what is before.
        arguments.push("--help");
        let ran = node.agent(&arguments);
        assert_eq!(
            ran.code,
            0,
            "{}: {}\n{}",
            call.place,
            call.arguments.join(" "),
            ran.stderr
        );
    }
}
