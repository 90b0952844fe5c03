//! What stands before the command, and options that mean the same for all.

use super::Failure;
use api::default_socket;
use std::path::PathBuf;
use std::time::Duration;

/// OpenFlow versions, as `-O` of `ovs-ofctl` has them.
const VERSIONS: [&str; 6] =
    ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

/// Settings of all commands.
#[derive(Debug, PartialEq, Eq)]
pub struct Globals {
    /// Answers as JSON.
    pub json: bool,
    /// The daemon's socket.
    pub control: PathBuf,
    /// How long the daemon has to answer.
    pub timeout: Option<Duration>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A command, or several joined by `--`.
    Command(Globals, Vec<String>),
    /// `help`, with the command it is about.
    Help(Option<String>),
    /// `--version`.
    Version,
}

/// Takes the global options out. They stand before the command; those that `ovs-ofctl`'s users write behind it, and
/// that no command has as a word of its own, may stand anywhere.
pub fn globals(args: &[String]) -> Result<Wanted, Failure> {
    let control = std::env::var_os("VXSWITCH_CONTROL").map_or_else(default_socket, PathBuf::from);
    let mut globals = Globals { json: false, control, timeout: None };
    let mut rest: Vec<String> = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let first = rest.iter().all(|word| word.starts_with('-'));
        let mut value = |name: &str, what: &str| match words.next() {
            Some(value) => Ok(value.clone()),
            None => Failure::usage(format!("{name}: expected {what}")),
        };
        match word.as_str() {
            "-j" | "--json" => globals.json = true,
            "-h" | "--help" => return Ok(Wanted::Help(rest.into_iter().find(|word| !word.starts_with('-')))),
            "-V" | "--version" if first => return Ok(Wanted::Version),
            "--no-wait" => {}
            "-O" | "--protocols" => versions(&value(word, "an OpenFlow version, such as OpenFlow13")?)?,
            "-t" | "--timeout" => globals.timeout = Some(seconds(&value(word, "a number of seconds")?)?),
            "--control" if first => globals.control = value(word, "the path of a socket")?.into(),
            word => {
                let (name, text) = word.split_once('=').unwrap_or((word, ""));
                let short = |letter: &str| word.strip_prefix(letter).filter(|_| !word.starts_with("--"));
                match name {
                    "--control" if first => globals.control = text.into(),
                    "--protocols" => versions(text)?,
                    "--timeout" => globals.timeout = Some(seconds(text)?),
                    _ if short("-O").is_some() => versions(&word[2..])?,
                    _ if short("-t").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) => {
                        globals.timeout = Some(seconds(&word[2..])?);
                    }
                    _ => rest.push(word.to_owned()),
                }
            }
        }
    }
    match rest.as_slice() {
        [] => Failure::usage("expected a command"),
        [help] if help == "help" => Ok(Wanted::Help(None)),
        [help, command, ..] if help == "help" => Ok(Wanted::Help(Some(command.clone()))),
        _ => Ok(Wanted::Command(globals, rest)),
    }
}

/// The daemon speaks no OpenFlow with us, so any version will do.
fn versions(text: &str) -> Result<(), Failure> {
    let known = |name: &str| VERSIONS.iter().any(|version| version.eq_ignore_ascii_case(name));
    match text.split(',').find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => {
            Failure::usage(format!("-O: found {name:?}, expected one or more of {}", VERSIONS.join(", ")))
        }
    }
}

/// As with `ovs-vsctl`, 0 is for ever.
fn seconds(text: &str) -> Result<Duration, Failure> {
    match text.parse::<u32>() {
        Ok(0) => Ok(Duration::MAX),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Failure::usage(format!("-t: found {text:?}, expected a number of seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn command(text: &str) -> (Globals, String) {
        match globals(&words(text)) {
            Ok(Wanted::Command(globals, rest)) => (globals, rest.join(" ")),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn global_options_stand_before_the_command() {
        let (found, rest) = command("-j --control /x.sock list interface p0");
        assert_eq!(found, Globals { json: true, control: "/x.sock".into(), timeout: None });
        assert_eq!(rest, "list interface p0");
        let (found, rest) = command("--control=/y --if-exists del-br br0 -- add-br br1");
        assert_eq!(found, Globals { json: false, control: "/y".into(), timeout: None });
        assert_eq!(rest, "--if-exists del-br br0 -- add-br br1");
    }

    #[test]
    fn what_scripts_for_open_vswitch_say_is_taken() {
        for text in [
            "-O OpenFlow13 dump-flows br0",
            "-OOpenFlow13 dump-flows br0",
            "dump-flows br0 -O openflow10,OpenFlow15",
            "--no-wait dump-flows br0",
            "dump-flows --protocols=OpenFlow14 br0",
        ] {
            assert_eq!(command(text).1, "dump-flows br0", "{text}");
        }
        for text in ["-t 5 show", "-t5 show", "--timeout=5 show", "--timeout 5 show"] {
            let (found, rest) = command(text);
            assert_eq!((found.timeout, rest.as_str()), (Some(Duration::from_secs(5)), "show"), "{text}");
        }
        for text in ["-O OpenFlow9 show", "-t x show", "show -O", "--timeout= show"] {
            assert!(globals(&words(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_to_do_is_an_error_and_help_is_none() {
        assert!(globals(&[]).is_err());
        assert!(globals(&words("--control")).is_err());
        assert_eq!(globals(&words("--version")).unwrap(), Wanted::Version);
        for text in ["--help", "-h", "help"] {
            assert_eq!(globals(&words(text)).unwrap(), Wanted::Help(None), "{text}");
        }
        for text in ["help add-br", "add-br --help", "--may-exist add-br -h", "add-br br0 --help"] {
            assert_eq!(globals(&words(text)).unwrap(), Wanted::Help(Some("add-br".into())), "{text}");
        }
    }
}
