//! sf-firstboot.
fn main() {}
