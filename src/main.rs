//! The program; everything is in the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    pgring::app::run(pgring::app::Cli::parse())
}
