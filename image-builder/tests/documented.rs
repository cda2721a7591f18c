//! What the documents tell people to type.

use sf_command::{Cmd, Sink};

#[path = "../../tests/cli/documented.rs"]
mod documents;

#[test]
fn every_command_in_the_documents_is_taken() {
    let calls = documents::calls("sf-image");
    assert!(calls.len() > 10, "only {} were found", calls.len());
    let folder = tempfile::tempdir().unwrap();
    for call in calls {
        let errors = folder.path().join("stderr");
        // Asked for its help, a command does nothing, and yet reads what is before.
        let mut child = Cmd::path(env!("CARGO_BIN_EXE_sf-image"))
            .args(call.arguments.iter().map(String::as_str))
            .arg("--help")
            .stdout(Sink::Null)
            .stderr(Sink::File(errors.clone()))
            .spawn()
            .unwrap();
        let status = child.wait().unwrap();
        assert!(
            status.success(),
            "{}: {}\n{}",
            call.place,
            call.arguments.join(" "),
            std::fs::read_to_string(&errors).unwrap()
        );
    }
}
