//! The `walcast` program.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    walcast_server::cli::run(env::args_os())
}
