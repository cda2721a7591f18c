//! The committed reference is what the code says.

#[test]
fn the_reference_of_failure_codes_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/errors.md");
    let made = sf_firstboot::reference::errors();
    if std::env::var_os("SF_UPDATE_REFERENCE").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/reference/errors.md is not current: run SF_UPDATE_REFERENCE=1 cargo test -p sf-firstboot --test agent reference"
    );
}
