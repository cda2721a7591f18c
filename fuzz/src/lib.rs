//! What the fuzz targets do with their bytes. `tests/fuzz/corpus.rs` runs the
//! committed corpus through the same functions in `cargo test`.

mod targets;

pub use targets::*;
