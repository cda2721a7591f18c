//! sf-firstboot: a shim; the program is the library.

fn main() -> std::process::ExitCode {
    sf_firstboot::cli::main()
}
