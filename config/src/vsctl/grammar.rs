//! Command line to commands.

use super::condition::cut;
use super::value::{atom, split};
use super::{Command, Condition, Selector, Setting, Table, VsctlError};
use crate::suggest::nearest;

/// A command of the grammar: name, options that it takes, least and most arguments.
struct Spec {
    name: &'static str,
    options: &'static [&'static str],
    arguments: (usize, usize),
}

const MANY: usize = usize::MAX;

const fn spec(name: &'static str, options: &'static [&'static str], least: usize, most: usize) -> Spec {
    Spec { name, options, arguments: (least, most) }
}

const MAY_EXIST: &[&str] = &["--may-exist"];
const IF_EXISTS: &[&str] = &["--if-exists"];

static COMMANDS: [Spec; 27] = [
    spec("init", &[], 0, 0),
    spec("show", &[], 0, 0),
    spec("add-br", MAY_EXIST, 1, 3),
    spec("del-br", IF_EXISTS, 1, 1),
    spec("list-br", &[], 0, 0),
    spec("br-exists", &[], 1, 1),
    spec("add-port", MAY_EXIST, 2, MANY),
    spec("del-port", IF_EXISTS, 1, 2),
    spec("list-ports", &[], 1, 1),
    spec("list-ifaces", &[], 1, 1),
    spec("port-to-br", &[], 1, 1),
    spec("iface-to-br", &[], 1, 1),
    spec("get-fail-mode", &[], 1, 1),
    spec("set-fail-mode", &[], 2, 2),
    spec("del-fail-mode", &[], 1, 1),
    spec("set", IF_EXISTS, 3, MANY),
    spec("add", IF_EXISTS, 4, MANY),
    spec("remove", IF_EXISTS, 4, MANY),
    spec("clear", IF_EXISTS, 3, MANY),
    spec("get", &["--if-exists", "--id"], 2, MANY),
    spec("create", &["--id"], 2, MANY),
    spec("destroy", &["--if-exists", "--all"], 1, MANY),
    spec("list", &["--if-exists", "--columns"], 1, MANY),
    spec("find", &["--columns"], 1, MANY),
    spec("wait-until", IF_EXISTS, 2, MANY),
    spec("br-set-external-id", &[], 2, 3),
    spec("br-get-external-id", &[], 1, 2),
];

/// Commands of `ovs-vsctl` that exist there and not here.
const ELSEWHERE: [&str; 21] = [
    "set-controller",
    "get-controller",
    "del-controller",
    "set-manager",
    "get-manager",
    "del-manager",
    "get-ssl",
    "set-ssl",
    "del-ssl",
    "add-bond",
    "add-bond-iface",
    "del-bond-iface",
    "br-to-vlan",
    "br-to-parent",
    "add-zone-tp",
    "del-zone-tp",
    "list-zone-tp",
    "auto-attach",
    "emer-reset",
    "comment",
    "add-aa-mapping",
];

/// Reads a command line, program name and its own options left out: commands joined by `--`, each with its options
/// in front. `--no-wait` and `--timeout=N` are accepted and mean nothing here.
pub fn parse_transaction(args: &[String]) -> Result<Vec<Command>, VsctlError> {
    let mut commands = Vec::new();
    for words in args.split(|arg| arg == "--") {
        // `ovs-vsctl -- --may-exist add-br br0` starts with a separator.
        if !words.is_empty() {
            commands.push(command(words)?);
        }
    }
    if commands.is_empty() { usage("missing command name; use --help for help") } else { Ok(commands) }
}

fn usage<T>(message: impl Into<String>) -> Result<T, VsctlError> {
    Err(VsctlError::Usage(message.into()))
}

fn command(words: &[String]) -> Result<Command, VsctlError> {
    let count = words.iter().take_while(|word| word.starts_with("--")).count();
    let (options, words) = words.split_at(count);
    let Some((name, args)) = words.split_first() else {
        return usage("missing command name; use --help for help");
    };
    let Some(spec) = COMMANDS.iter().find(|spec| spec.name == name) else {
        if ELSEWHERE.contains(&name.as_str()) {
            return usage(format!("'{name}' is a command of Open vSwitch that this switch does not have"));
        }
        let known: Vec<&str> = COMMANDS.iter().map(|spec| spec.name).collect();
        let hint = nearest(name, &known)
            .map_or_else(|| "use --help for help".to_owned(), |near| format!("did you mean '{near}'?"));
        return usage(format!("unknown command '{name}'; {hint}"));
    };
    let (mut may_exist, mut if_exists, mut all) = (false, false, false);
    let (mut columns, mut id) = (Vec::new(), None);
    for option in options {
        let (option, value) = option.split_once('=').map_or((option.as_str(), None), |(o, v)| (o, Some(v)));
        if matches!(option, "--no-wait" | "--timeout") {
            continue;
        }
        if !spec.options.contains(&option) {
            return usage(format!("'{name}' command has no '{option}' option"));
        }
        match (option, value) {
            ("--columns", Some(list)) => columns = list.split(',').map(column).collect(),
            ("--columns", None) => {
                return usage("'--columns' needs a list of columns, as --columns=name,type");
            }
            ("--id", Some(name)) if name.len() > 1 && name.starts_with('@') => id = Some(name.to_owned()),
            ("--id", _) => return usage("'--id' needs a name that begins with \"@\", as --id=@m"),
            (_, Some(_)) => {
                return usage(format!("'{option}' option on '{name}' does not accept an argument"));
            }
            ("--may-exist", None) => may_exist = true,
            ("--all", None) => all = true,
            (_, None) => if_exists = true,
        }
    }
    let (least, most) = spec.arguments;
    if args.len() < least {
        return usage(format!("'{name}' command requires at least {least} arguments"));
    }
    if args.len() > most {
        return usage(format!("'{name}' command takes at most {most} arguments"));
    }
    // Indices below `least` exist.
    let arg = |index: usize| args[index].clone();
    Ok(match spec.name {
        "init" => Command::Init,
        "show" => Command::Show,
        "add-br" if args.len() > 1 => {
            return usage(
                "'add-br' with a parent and a VLAN (fake bridge) is not supported; use 'tag' on ports",
            );
        }
        "add-br" => Command::AddBr { bridge: arg(0), may_exist },
        "del-br" => Command::DelBr { bridge: arg(0), if_exists },
        "list-br" => Command::ListBr,
        "br-exists" => Command::BrExists { bridge: arg(0) },
        "add-port" => {
            Command::AddPort { bridge: arg(0), port: arg(1), may_exist, settings: settings(&args[2..])? }
        }
        "del-port" => match args {
            [bridge, port] => {
                Command::DelPort { bridge: Some(bridge.clone()), port: port.clone(), if_exists }
            }
            _ => Command::DelPort { bridge: None, port: arg(0), if_exists },
        },
        "list-ports" | "list-ifaces" => Command::ListPorts { bridge: arg(0) },
        "port-to-br" | "iface-to-br" => Command::PortToBr { port: arg(0) },
        "get-fail-mode" => Command::GetFailMode { bridge: arg(0) },
        "set-fail-mode" => match args[1].parse() {
            Ok(mode) => Command::SetFailMode { bridge: arg(0), mode },
            Err(_) => {
                return usage(format!("fail-mode must be \"standalone\" or \"secure\", found {:?}", args[1]));
            }
        },
        "del-fail-mode" => Command::DelFailMode { bridge: arg(0) },
        "set" => Command::Set {
            table: table(&args[0])?,
            record: arg(1),
            if_exists,
            settings: settings(&args[2..])?,
        },
        "add" => Command::Add {
            table: table(&args[0])?,
            record: arg(1),
            if_exists,
            column: column(&args[2]),
            values: args[3..].to_vec(),
        },
        "remove" => Command::Remove {
            table: table(&args[0])?,
            record: arg(1),
            if_exists,
            column: column(&args[2]),
            values: args[3..].to_vec(),
        },
        "clear" => Command::Clear {
            table: table(&args[0])?,
            record: arg(1),
            if_exists,
            columns: args[2..].iter().map(|arg| column(arg)).collect(),
        },
        "get" => {
            let selectors = args[2..].iter().map(|arg| selector(arg)).collect::<Result<_, _>>()?;
            Command::Get { id, table: table(&args[0])?, record: arg(1), if_exists, selectors }
        }
        "create" | "destroy" if table(&args[0])? != Table::Mirror => {
            return usage(format!(
                "'{name}' is for table Mirror; bridges and ports come and go by add-br, add-port, del-br, del-port"
            ));
        }
        "create" => Command::Create { id, settings: settings(&args[1..])? },
        "destroy" if all == (args.len() > 1) => {
            return usage("'destroy' needs the names of mirrors, or --all in front");
        }
        "destroy" => Command::Destroy { records: args[1..].to_vec(), all, if_exists },
        "list" => Command::List { table: table(&args[0])?, records: args[1..].to_vec(), columns, if_exists },
        "wait-until" => Command::WaitUntil {
            table: table(&args[0])?,
            record: arg(1),
            if_exists,
            conditions: conditions(&args[2..])?,
        },
        "br-set-external-id" => {
            Command::BrSetExternalId { bridge: arg(0), key: arg(1), value: args.get(2).cloned() }
        }
        "br-get-external-id" => Command::BrGetExternalId { bridge: arg(0), key: args.get(1).cloned() },
        _ => Command::Find { table: table(&args[0])?, conditions: conditions(&args[1..])?, columns },
    })
}

/// A table by name; case does not count, and a beginning that is no other table's will do (as in `ovs-vsctl`).
fn table(name: &str) -> Result<Table, VsctlError> {
    let lower = name.to_ascii_lowercase();
    let tables = [
        ("bridge", Table::Bridge),
        ("port", Table::Port),
        ("interface", Table::Interface),
        ("mirror", Table::Mirror),
        ("open_vswitch", Table::OpenVSwitch),
    ];
    if let Some((_, table)) =
        tables.iter().find(|(full, _)| !lower.is_empty() && full.starts_with(lower.as_str()))
    {
        return Ok(*table);
    }
    usage(format!("unknown table \"{name}\", expected Bridge, Port, Interface, Mirror or Open_vSwitch"))
}

/// A column's canonical spelling: case, `-` and `_` do not count.
fn column(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace('-', "_")
}

fn settings(args: &[String]) -> Result<Vec<Setting>, VsctlError> {
    args.iter().map(|arg| setting(arg)).collect()
}

fn conditions(args: &[String]) -> Result<Vec<Condition>, VsctlError> {
    let condition = |arg: &String| match cut(arg) {
        Some((target, operator, value)) => {
            Ok(Condition { selector: selector(target)?, operator, value: value.to_owned() })
        }
        None => {
            usage(format!("{arg}: argument has no operator, expected COLUMN[:KEY]OPVALUE such as type=vxlan"))
        }
    };
    args.iter().map(condition).collect()
}

/// `COLUMN[:KEY]=VALUE`.
fn setting(arg: &str) -> Result<Setting, VsctlError> {
    let target = split(arg, '=').first().copied().unwrap_or_default();
    let Some(value) = arg.get(target.len() + 1..) else {
        return usage(format!(
            "{arg}: argument does not end in \"=\" followed by a value, expected COLUMN[:KEY]=VALUE"
        ));
    };
    let Selector { column, key } = selector(target)?;
    Ok(Setting { column, key, value: value.to_owned() })
}

/// `COLUMN[:KEY]`.
fn selector(arg: &str) -> Result<Selector, VsctlError> {
    let (name, key) = arg.split_once(':').map_or((arg, None), |(name, key)| (name, Some(key)));
    if name.trim().is_empty() {
        return usage(format!("{arg}: missing column name, expected COLUMN[:KEY]"));
    }
    let key = match key.map(atom) {
        Some(Ok(key)) if !key.is_empty() => Some(key),
        Some(Ok(_)) => return usage(format!("{arg}: missing key after \":\"")),
        Some(Err(message)) => return usage(format!("{arg}: {message}")),
        None => None,
    };
    Ok(Selector { column: column(name), key })
}
