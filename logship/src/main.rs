fn main() -> std::process::ExitCode {
    logship::main()
}
