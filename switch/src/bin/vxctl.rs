//! The command line of a running switch. See `vxctl --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    vxswitch::ctl::main(&args)
}
