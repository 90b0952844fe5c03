//! The switch. See `vxswitch --help`, and `vxswitch::control::daemon` for what happens.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    vxswitch::control::daemon::main(&args)
}
