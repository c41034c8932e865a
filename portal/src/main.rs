//! The portal's program: reads the command line and does one thing.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
