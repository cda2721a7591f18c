//! sf-image: builds, checks and boots Shaken Fist images. Everything is in the
//! library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sf_image::cli::main()
}
