fn main() -> std::process::ExitCode {
    jurist::cli::run(std::env::args_os())
}
