//! The switch. See `vxswitch --help`, and `vxswitch::control::daemon` for what happens.

use std::process::ExitCode;

/// The slow path makes and frees what a flow needs by the hundred thousand a second, on a thread of its own, where
/// glibc's arenas grow by a system call every few flows.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    vxswitch::control::daemon::main(&args)
}
