//! The door.

fn main() -> std::process::ExitCode {
    logship::main()
}
