fn main() -> std::process::ExitCode {
    ssh_gateway::main()
}
