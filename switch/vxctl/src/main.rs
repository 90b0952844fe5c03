//! `vxctl`: the command line of a running switch.
//!
//! Configuration is `ovs-vsctl`'s grammar and goes to the daemon as it was typed; flows are `ovs-ofctl`'s; the rest
//! is noun and verb. Results go to stdout, one clear line to stderr when something is wrong.

mod capture;
mod cli;
mod client;
mod commands;
mod diff;
mod dump;
mod flows;
mod globals;
mod graph;
mod monitor;
mod own;
mod print;
mod restart;
mod stream;
mod top;

use globals::{Wanted, globals};
use std::process::ExitCode;

/// Why a command was not done. Its text is the line for stderr.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The command line is wrong.
    #[error("{0}; see vxctl help")]
    Usage(String),
    /// The daemon refuses.
    #[error("{0}")]
    Refused(String),
    /// There is no daemon to talk to.
    #[error("{0}")]
    Connection(String),
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
}

impl Failure {
    fn usage<T>(message: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::Usage(message.into()))
    }
}

/// Writes to stdout. A reader that went away (`vxctl ... | head`) wants no more, which ends the process; a full disk is
/// an error.
fn out(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.map_err(|error| Failure::File("stdout".to_owned(), error)),
    }
}

fn run(args: &[String]) -> Result<ExitCode, Failure> {
    let text = match globals(args)? {
        Wanted::Command(globals, words) => return commands::run(&globals, &words),
        Wanted::Version => format!("vxctl {}\n", env!("CARGO_PKG_VERSION")),
        Wanted::Help(None) => cli::overview(),
        Wanted::Help(Some(command)) => match cli::help(&command) {
            Some(text) => text,
            None => return Failure::usage(format!("there is no command '{command}'")),
        },
    };
    out(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    run(&args).unwrap_or_else(|failure| {
        eprintln!("vxctl: {failure}");
        ExitCode::FAILURE
    })
}
