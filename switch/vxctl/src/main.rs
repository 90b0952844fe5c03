//! `vxctl`: the command line of a running switch.
//!
//! Configuration is `ovs-vsctl`'s grammar and goes to the daemon as it was typed; flows are `ovs-ofctl`'s; the rest
//! is noun and verb. Results go to stdout, one clear line to stderr when something is wrong.

mod capture;
mod client;
mod commands;
mod diff;
mod flows;
mod print;
mod top;

use api::default_socket;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
vxctl: configures and shows a running vxswitch
usage: vxctl [-j] [--control SOCKET] COMMAND [ARG]... [-- COMMAND [ARG]...]

Configuration, as ovs-vsctl (commands joined by -- are one transaction):
  show                                bridges, ports, tunnels
  [--may-exist] add-br BR             [--if-exists] del-br BR       list-br   br-exists BR
  [--may-exist] add-port BR PORT [COLUMN=VALUE]...                  list-ports BR
  [--if-exists] del-port [BR] PORT    port-to-br PORT
  set|add|remove|clear|get|list bridge|port|interface|mirror ...    set-fail-mode BR standalone|secure
  [--id=@M] create mirror name=NAME [COLUMN=VALUE]...               destroy mirror NAME
  document [FILE|-]                   print the desired state as TOML, or make a file's the desired state
Flows, as ovs-ofctl:
  add-flow BR FLOW                    add-flows BR FILE|-           replace-flows BR FILE|-
  [--strict] mod-flows BR FLOW        [--strict] del-flows BR [MATCH]
  dump-flows BR [MATCH]               dump-aggregate BR [MATCH]     diff-flows BR|FILE BR|FILE
  add-group BR GROUP                  add-groups BR FILE|-          [--may-create] mod-group BR GROUP
  del-groups BR [group_id=N]          dump-groups BR [N]            dump-group-stats BR [N]
  add-meter|mod-meter BR METER        del-meters BR [meter=N]       dump-meters|meter-stats BR [meter=N]
  dump-ports BR [PORT]
Tables:
  fdb show BR                         fdb add BR PORT VLAN MAC [REMOTE]   fdb del BR VLAN MAC   fdb flush BR
  neigh show [BR]                     neigh set BR IP MAC                 neigh flush [BR]
  route show                          route add BR PREFIX [VIA]           route del BR PREFIX [VIA]
Inside:
  megaflow show [BR]                  lcore show                    upcall show
  drops [-a]                          trace BR FLOW [HEX PACKET]    top [-n COUNT] [-d SECONDS]
  capture PORT|controller:BR FILE|- [--count N] [--seconds S]

  -j, --json         print JSON
  --control SOCKET   the daemon's control socket (or VXSWITCH_CONTROL)
  -h, --help         this text
  -V, --version      the version
";

/// Why a command was not done. Its text is the line for stderr.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The command line is wrong.
    #[error("{0}; see vxctl --help")]
    Usage(String),
    /// The daemon refuses.
    #[error("{0}")]
    Refused(String),
    /// There is no daemon to talk to.
    #[error("{0}")]
    Connection(String),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
}

impl Failure {
    fn usage<T>(message: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::Usage(message.into()))
    }
}

/// What stands before the command.
#[derive(Debug, PartialEq, Eq)]
struct Globals {
    json: bool,
    control: PathBuf,
}

/// Takes the global options out. `Err` is a text to print instead of doing anything.
fn globals(args: &[String]) -> Result<Result<(Globals, Vec<String>), String>, Failure> {
    let control = std::env::var_os("VXSWITCH_CONTROL").map_or_else(default_socket, PathBuf::from);
    let mut globals = Globals { json: false, control };
    let mut rest = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            // No command takes these words as an argument of its own, so they may stand anywhere.
            "-j" | "--json" => globals.json = true,
            "--control" if rest.is_empty() => match words.next() {
                Some(path) => globals.control = path.into(),
                None => return Failure::usage("--control: expected the path of a socket"),
            },
            "-h" | "--help" if rest.is_empty() => return Ok(Err(HELP.to_owned())),
            "-V" | "--version" if rest.is_empty() => {
                return Ok(Err(format!("vxctl {}\n", env!("CARGO_PKG_VERSION"))));
            }
            word => match word.strip_prefix("--control=") {
                Some(path) if rest.is_empty() => globals.control = path.into(),
                _ => rest.push(word.to_owned()),
            },
        }
    }
    if rest.is_empty() { Failure::usage("expected a command") } else { Ok(Ok((globals, rest))) }
}

/// Writes to stdout; a reader that went away is no error (`vxctl ... | head`).
fn out(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match globals(&args) {
        Ok(Ok((globals, words))) => commands::run(&globals, &words),
        Ok(Err(text)) => {
            out(&text);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(failure),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("vxctl: {failure}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn global_options_stand_before_the_command() {
        let (found, rest) = globals(&words("-j --control /x.sock list interface p0")).unwrap().unwrap();
        assert_eq!(found, Globals { json: true, control: "/x.sock".into() });
        assert_eq!(rest, words("list interface p0"));
        let (found, rest) =
            globals(&words("--control=/y --if-exists del-br br0 -- add-br br1")).unwrap().unwrap();
        assert_eq!(found, Globals { json: false, control: "/y".into() });
        assert_eq!(rest, words("--if-exists del-br br0 -- add-br br1"));
    }

    #[test]
    fn nothing_to_do_is_an_error_and_help_is_none() {
        assert!(globals(&[]).is_err());
        assert!(globals(&words("--control")).is_err());
        assert!(globals(&words("--help")).unwrap().unwrap_err().contains("add-port"));
        assert!(globals(&words("--version")).unwrap().unwrap_err().starts_with("vxctl "));
    }
}
