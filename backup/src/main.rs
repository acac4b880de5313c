//! The door.

fn main() -> std::process::ExitCode {
    backup::main()
}
