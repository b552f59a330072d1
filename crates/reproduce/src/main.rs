//! `reproduce`: runs the reproductions and makes the report.

use std::process::ExitCode;

fn main() -> ExitCode {
    match autodidact_reproduce::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
