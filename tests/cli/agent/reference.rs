//! The committed reference is what the code says.

/// Compares a page with what was made, or writes it.
fn is_current(page: &str, made: &str) {
    let path = format!("{}/../docs/reference/{page}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SF_UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/reference/{page} is not current: run SF_UPDATE_REFERENCE=1 cargo test -p sf-firstboot --test agent reference"
    );
}

#[test]
fn the_reference_of_failure_codes_is_current() {
    is_current("errors.md", &sf_firstboot::reference::errors());
}

#[test]
fn the_reference_of_the_checks_is_current() {
    is_current("preflight.md", &sf_firstboot::reference::preflight());
}
