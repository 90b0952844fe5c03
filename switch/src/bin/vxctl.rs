//! The command line of a running switch. See `vxctl --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
