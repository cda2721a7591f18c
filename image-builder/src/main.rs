//! sf-image.
fn main() {}
