//! The table of commands: help, man pages and completions are made from it, and a test compares it with what is done.

use clap::{Arg, ArgAction, Command};
use std::fmt::Write;

/// What `vxctl help` calls a group of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `ovs-vsctl`'s.
    Configuration,
    /// `ovs-ofctl`'s.
    Flows,
    /// What the switch learns or is told of addresses.
    Tables,
    /// What goes on inside.
    Inside,
    /// `vxctl`'s own.
    Own,
}

impl Group {
    const ALL: [(Group, &str); 5] = [
        (Group::Configuration, "Configuration, as ovs-vsctl (commands joined by -- are one transaction)"),
        (Group::Flows, "Flows, as ovs-ofctl"),
        (Group::Tables, "Tables"),
        (Group::Inside, "Inside"),
        (Group::Own, "About vxctl"),
    ];
}

/// A row of the table.
#[derive(Debug)]
pub struct Entry {
    /// First word, or first two where the second is a verb.
    pub name: &'static str,
    /// What stands behind the name.
    pub arguments: &'static str,
    /// Options that may stand in front (or, but for configuration, anywhere), each with what it does.
    pub options: &'static [(&'static str, &'static str)],
    /// Its group.
    pub group: Group,
    about: &'static str,
    /// More, for `help COMMAND`.
    detail: &'static str,
}

const MAY_EXIST: (&str, &str) = ("--may-exist", "one that is there stays as it is");
const IF_EXISTS: (&str, &str) = ("--if-exists", "one that is not there is no error");
const COLUMNS: (&str, &str) = ("--columns=A,B", "these columns only");
const ID: (&str, &str) = ("--id=@NAME", "other commands of the transaction know the record by this name");
const STRICT: (&str, &str) = ("--strict", "only flows with exactly this match and priority");
const DUMP: &[(&str, &str)] = &[
    STRICT,
    ("--no-stats", "without cookies of 0, durations and counts"),
    ("--names", "ports by name (the default)"),
    ("--no-names", "ports by number"),
    ("--sort[=FIELD]", "by ascending priority, or value of a field; several hold one after the other"),
    ("--rsort[=FIELD]", "the same, descending"),
];

const LIMITS: &[(&str, &str)] =
    &[("-c, --count N", "end after N packets"), ("--seconds S", "end after S seconds")];

const SYNTAX: &str = "Match and actions are those of ovs-ofctl(8), ovs-fields(7) and ovs-actions(7).";
const RECORD: &str = "TABLE is bridge, port, interface, mirror or open_vswitch (one record, \".\"). A value is a word, a set [A, B] or a map {K=V, ...}.";

macro_rules! entries {
    ($($group:ident { $($name:literal $arguments:literal $options:expr, $about:literal $(, $detail:expr)?;)* })*) => {
        /// Every command, in the order of `vxctl help`.
        pub static COMMANDS: &[Entry] = &[$($(Entry {
            name: $name,
            arguments: $arguments,
            options: $options,
            group: Group::$group,
            about: $about,
            detail: concat_detail!($($detail)?),
        },)*)*];
    };
}

macro_rules! concat_detail {
    () => {
        ""
    };
    ($detail:expr) => {
        $detail
    };
}

entries! {
    Configuration {
        "show" "" &[], "bridges, ports, tunnels";
        "init" "" &[], "nothing: there is no database to make; taken for scripts";
        "add-br" "BR" &[MAY_EXIST], "make a bridge";
        "del-br" "BR" &[IF_EXISTS], "delete a bridge with its ports";
        "list-br" "" &[], "names of the bridges";
        "br-exists" "BR" &[], "exit status 0 if there is such a bridge, 2 if not";
        "add-port" "BR PORT [COLUMN[:KEY]=VALUE]..." &[MAY_EXIST], "add a port to a bridge",
            "The columns are those of table port (tag, trunks, vlan_mode). Its type and options are columns of table interface:\n\
             vxctl add-port br0 vx1 -- set interface vx1 type=vxlan options:remote_ip=192.168.1.2 options:key=100";
        "del-port" "[BR] PORT" &[IF_EXISTS], "delete a port";
        "list-ports" "BR" &[], "names of a bridge's ports";
        "list-ifaces" "BR" &[], "names of a bridge's interfaces, which are its ports'";
        "port-to-br" "PORT" &[], "the bridge that has the port";
        "iface-to-br" "IFACE" &[], "the bridge that has the interface";
        "get-fail-mode" "BR" &[], "standalone or secure";
        "set-fail-mode" "BR standalone|secure" &[], "what becomes of a packet that no rule matches";
        "del-fail-mode" "BR" &[], "back to standalone";
        "br-set-external-id" "BR KEY [VALUE]" &[], "set a key of the bridge's external_ids, or without a value remove it";
        "br-get-external-id" "BR [KEY]" &[], "a key of the bridge's external_ids, or all of them";
        "set" "TABLE RECORD COLUMN[:KEY]=VALUE..." &[IF_EXISTS], "set columns of a record", RECORD;
        "add" "TABLE RECORD COLUMN [KEY=]VALUE..." &[IF_EXISTS], "add to a set or a map",
            "A key that is there keeps its value, but for options remote_ip of a tunnel port: there the address joins the others.";
        "remove" "TABLE RECORD COLUMN [KEY=]VALUE|KEY..." &[IF_EXISTS], "remove from a set or a map",
            "With remote_ip=ADDRESS of a tunnel port's options one of its remotes goes, the others stay.";
        "clear" "TABLE RECORD COLUMN..." &[IF_EXISTS], "empty columns", RECORD;
        "get" "TABLE RECORD [COLUMN[:KEY]]..." &[IF_EXISTS, ID], "print columns of a record", RECORD;
        "list" "TABLE [RECORD]..." &[IF_EXISTS, COLUMNS], "print records", RECORD;
        "find" "TABLE [COLUMN[:KEY]OPVALUE]..." &[COLUMNS], "print the records for which all conditions hold",
            "OP is =, !=, <, >, <= or >=; for sets and maps {=}, {!=}, {in}, {not-in}, {<}, {>}, {<=}, {>=} as well.";
        "wait-until" "TABLE RECORD [COLUMN[:KEY]OPVALUE]..." &[IF_EXISTS], "wait until the record is there and all conditions hold",
            "The commands joined to it are done afterwards. See find for the conditions, and -t for how long.";
        "create" "mirror name=NAME [COLUMN=VALUE]..." &[ID], "make a mirror; set or add puts it into its bridge's mirrors";
        "destroy" "mirror [NAME]..." &[IF_EXISTS, ("--all", "all mirrors")], "delete mirrors";
        "document" "" &[], "print the desired state as TOML";
        "apply" "FILE|-" &[], "make the state in a file the desired state, all or none";
        "save" "" &[], "write the desired state to the daemon's file; comments and order stay";
        "restart-handover" "" &[], "start the daemon anew; a second process takes the place of the running one",
            "The new process has the same command line and the program that is installed now. Flows, FDB, neighbours and taps stay; what comes\nmeanwhile waits in the taps, and devices that two processes cannot have are closed by one and opened by the other. Where the new\nprocess does not start, the running one goes on.";
        "reload" "" &[], "make the state in the daemon's file the desired state, as SIGHUP does";
    }
    Flows {
        "add-flow" "BR FLOW" &[], "add a flow, or replace the one with the same match and priority", SYNTAX;
        "add-flows" "BR FILE|-" &[], "add the flows of a file, all or none";
        "replace-flows" "BR FILE|-" &[], "make the flows of a file the bridge's flows";
        "mod-flows" "BR FLOW" &[STRICT], "give flows other actions", SYNTAX;
        "del-flows" "BR [MATCH]" &[STRICT], "delete flows", SYNTAX;
        "dump-flows" "BR [MATCH]" DUMP, "print flows with their counts", SYNTAX;
        "dump-aggregate" "BR [MATCH]" &[STRICT], "print the sums of flows' counts";
        "diff-flows" "BR|FILE BR|FILE" &[], "print what differs; exit status 2 if anything does";
        "add-group" "BR GROUP" &[], "add a group", "group_id=1,type=select,bucket=weight:2,actions=output:p1,bucket=output:p2";
        "add-groups" "BR FILE|-" &[], "add the groups of a file, all or none";
        "mod-group" "BR GROUP" &[("--may-create", "one that is not there is made")], "give a group other buckets";
        "insert-buckets" "BR BUCKETS" &[], "add buckets to a group", "group_id=1,command_bucket_id=last,bucket=bucket_id:7,actions=output:p3";
        "remove-buckets" "BR PLACE" &[], "remove buckets of a group", "group_id=1,command_bucket_id=all (or first, last, N)";
        "del-groups" "BR [group_id=N]" &[], "delete groups";
        "dump-groups" "BR [N]" &[], "print groups";
        "dump-group-stats" "BR [N]" &[], "print groups' counts";
        "add-meter" "BR METER" &[], "add a meter", "meter=1,kbps,burst,bands=type=drop,rate=1000,burst_size=100";
        "mod-meter" "BR METER" &[], "give a meter another band";
        "del-meter" "BR meter=N" &[], "delete a meter";
        "del-meters" "BR [meter=N]" &[], "delete meters";
        "dump-meter" "BR meter=N" &[], "print a meter";
        "dump-meters" "BR [meter=N]" &[], "print meters";
        "meter-stats" "BR [meter=N]" &[], "print meters' counts";
        "add-tlv-map" "BR TLV..." &[], "give Geneve options tun_metadata fields",
            "TLV is {class=CLASS,type=TYPE,len=LEN}->tun_metadataN; several are joined by commas. LEN is 0 to 16 bytes, a multiple of 4.";
        "del-tlv-map" "BR [TLV...]" &[], "take the fields from options, from all if none is named";
        "dump-tlv-map" "BR" &[], "print which options have which fields";
        "mod-port" "BR PORT ACTION" &[], "say how a port may be used: up, receive, forward, flood, packet-in, or down, no-receive, ...",
            "A port that is down takes nothing in and sends nothing (drop reason port_down), until it is set up or the switch is restarted.";
        "packet-out" "BR PACKET-OUT" &[], "send a packet by actions",
            "PACKET-OUT is in_port=PORT,packet=HEX,actions=ACTIONS; PORT is a name, a number, LOCAL, CONTROLLER or NONE. \
             In the older form, BR PORT ACTIONS HEX..., there can be several packets.";
        "dump-ports" "BR [PORT]" &[], "print ports' counts";
        "trace" "BR FLOW [HEX PACKET]" &[], "what would become of a packet, rule by rule",
            "FLOW are the packet's fields; those of a packet in hexadecimal digits come out of it.";
    }
    Tables {
        "fdb show" "BR" &[], "MAC addresses that a bridge knows";
        "fdb add" "BR PORT VLAN MAC [REMOTE]" &[], "a static entry";
        "fdb del" "BR VLAN MAC" &[], "delete an entry";
        "fdb flush" "BR" &[], "forget what was learned";
        "neigh show" "[BR]" &[], "next hops of the tunnels; hosts that questions are answered for";
        "neigh set" "BR IP MAC [VLAN]" &[], "a static neighbour";
        "neigh del" "BR IP [VLAN]" &[], "delete a neighbour, static or not";
        "neigh flush" "[BR]" &[("--all", "static ones as well")], "forget what was resolved";
        "route show" "" &[], "routes of the tunnels";
        "route add" "BR PREFIX [VIA]" &[], "add a route, or replace the one to the same prefix";
        "route del" "BR PREFIX [VIA]" &[], "delete a route";
    }
    Inside {
        "graph" "" &[], "bridges, ports, tunnels and VTEPs as a graph for Graphviz (DOT)";
        "megaflow show" "[BR]" &[], "cached decisions with their counts";
        "bfd show" "[PORT]" &[], "BFD sessions: whether the other ends of ports' paths are there";
        "evpn show" "" &[], "VNIs whose remotes come from EVPN: VTEPs, counts of MAC addresses, zebra";
        "lcore show" "" &[], "workers: load, queues, cache hits";
        "appctl" "COMMAND [ARG]..." &[], "a command of ovs-appctl; list-commands names those that there are",
            "vxctl appctl dpif-netdev/pmd-sleep-show";
        "upcall show" "" &[], "packets that asked the slow path";
        "drops" "" &[("-a", "reasons that never occurred, too")], "dropped packets by reason";
        "top" "" &[("-n COUNT", "end after so many tables"), ("-d SECONDS", "time between two")], "rates, again and again";
        "events" "" &[], "what happens, as it happens: changes, links, limits";
        "monitor" "[PORT] [FILTER]" LIMITS, "packets as they come in, each with what becomes of it, rule by rule",
            "Without PORT packets that come in by any device. FILTER is an expression of pcap-filter(7), as tcpdump takes it:\n\
             vxctl monitor p0 -c 3 udp and dst port 53";
        "capture" "PORT|controller:BR|drops[:PORT|:REASON] FILE|- [FILTER]" LIMITS,
            "packets of a port, those that rules send to CONTROLLER, or dropped ones, as a file for Wireshark",
            "Dropped packets come as a pcapng file, whose comments say why and where; the reasons are those of vxctl drops.\n\
             FILTER is an expression of pcap-filter(7), as tcpdump takes it: vxctl capture p0 - icmp or arp | tcpdump -r -";
    }
    Own {
        "help" "[COMMAND]" &[], "this text, or more about a command";
        "completion" "bash|elvish|fish|powershell|zsh" &[], "print completions for a shell";
        "man" "DIRECTORY" &[], "write man pages, vxctl.1 and one a command";
    }
}

/// Options of `vxctl` itself.
const GLOBALS: &[(&str, &str)] = &[
    ("-j, --json", "print JSON"),
    ("--control=SOCKET", "the daemon's control socket (or VXSWITCH_CONTROL)"),
    ("-t, --timeout=SECONDS", "give up when the daemon has not answered by then"),
    ("-O, --protocols=VERSION", "OpenFlow10 to OpenFlow15: taken as ovs-ofctl takes it, makes no difference"),
    ("--no-wait", "taken as ovs-vsctl takes it: a command ends when it is done"),
    ("-h, --help", "this text, or behind a command more about it"),
    ("-V, --version", "the version"),
];

/// The entries whose first word is `word`.
pub fn of(word: &str) -> impl Iterator<Item = &'static Entry> {
    COMMANDS.iter().filter(move |entry| entry.name.split(' ').next() == Some(word))
}

impl Entry {
    /// Options, name and arguments as one types them.
    pub fn usage(&self) -> String {
        let options = self.options.iter().fold(String::new(), |text, (option, _)| text + "[" + option + "] ");
        let line = match self.group {
            Group::Configuration => format!("{options}{} {}", self.name, self.arguments),
            _ => format!("{} {options}{}", self.name, self.arguments),
        };
        line.trim_end().to_owned()
    }

    /// What a wrong command line is told to be.
    pub fn expected(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_owned()
    }
}

/// `vxctl help`.
pub fn overview() -> String {
    let mut text = "vxctl: configures and shows a running vxswitch\n\
                    usage: vxctl [-j] [--control=SOCKET] COMMAND [ARG]... [-- COMMAND [ARG]...]\n"
        .to_owned();
    let wide = 40;
    let row = |text: &mut String, left: &str, right: &str| {
        // A String takes all that is written to it.
        let _ = if left.len() < wide {
            writeln!(text, "  {left:<wide$}{right}")
        } else {
            writeln!(text, "  {left}\n  {:wide$}{right}", "")
        };
    };
    for (group, title) in Group::ALL {
        let _ = writeln!(text, "\n{title}:");
        for entry in COMMANDS.iter().filter(|entry| entry.group == group) {
            row(&mut text, &entry.expected(), entry.about);
        }
    }
    text.push('\n');
    for (option, about) in GLOBALS {
        row(&mut text, option, about);
    }
    text.push_str("\n'vxctl help COMMAND' says more about a command.\n");
    text
}

/// `vxctl help COMMAND`; `None` if there is no such command.
pub fn help(word: &str) -> Option<String> {
    let mut text = String::new();
    for entry in of(word) {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{}", command_of(entry).render_long_help());
    }
    (!text.is_empty()).then_some(text)
}

/// A row as clap has it.
fn command_of(entry: &'static Entry) -> Command {
    let name = entry.name.split(' ').next_back().unwrap_or(entry.name);
    let mut command = Command::new(name)
        .about(entry.about)
        .override_usage(format!("vxctl {}", entry.usage()))
        .disable_help_flag(true)
        .disable_version_flag(true);
    if !entry.detail.is_empty() {
        command = command.after_long_help(entry.detail);
    }
    for (option, about) in entry.options {
        command = command.arg(option_of(option, about));
    }
    command
}

/// `-d SECONDS`, `--strict`, `--sort[=FIELD]` as clap has it.
fn option_of(option: &'static str, about: &'static str) -> Arg {
    let (short, option) = match option.split_once(", ") {
        Some((short, long)) => (Some(short), long),
        None if option.starts_with("--") => (None, option),
        None => (Some(option), ""),
    };
    let value_of = |text: &'static str| text.split_once(['=', ' ', '[']);
    let (long, value) = value_of(option).map_or((option, None), |(long, value)| (long, Some(value)));
    let (short, value) = match short.map(|short| (short, value_of(short))) {
        Some((_, Some((short, value)))) => (Some(short), Some(value)),
        Some((short, None)) => (Some(short), value),
        None => (None, value),
    };
    let id = if long.is_empty() { short.unwrap_or_default() } else { long };
    let mut arg = Arg::new(id).help(about);
    if let Some(letter) = short.and_then(|short| short.chars().nth(1)) {
        arg = arg.short(letter);
    }
    if let Some(long) = long.strip_prefix("--") {
        arg = arg.long(long);
    }
    match value {
        Some(value) if option.contains('[') => {
            arg.num_args(0..=1).require_equals(true).value_name(value.trim_matches(['=', ']']))
        }
        Some(value) => arg.num_args(1).value_name(value),
        None => arg.action(ArgAction::SetTrue),
    }
}

/// All of it as clap has it, for man pages and completions.
pub fn whole() -> Command {
    let mut vxctl = Command::new("vxctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about("configures and shows a running vxswitch")
        .override_usage("vxctl [-j] [--control=SOCKET] COMMAND [ARG]... [-- COMMAND [ARG]...]")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true);
    for (option, about) in GLOBALS {
        vxctl = vxctl.arg(option_of(option, about));
    }
    let mut words: Vec<&str> = COMMANDS.iter().filter_map(|entry| entry.name.split(' ').next()).collect();
    words.dedup();
    for word in words {
        let mut entries = of(word);
        let command = match entries.next() {
            Some(entry) if entry.name == word => command_of(entry),
            first => {
                let verbs: Vec<&Entry> = first.into_iter().chain(entries).collect();
                let about = verbs.iter().map(|entry| entry.about).collect::<Vec<_>>().join("; ");
                let noun =
                    Command::new(word).about(about).disable_help_flag(true).disable_help_subcommand(true);
                verbs.into_iter().fold(noun, |noun, entry| noun.subcommand(command_of(entry)))
            }
        };
        vxctl = vxctl.subcommand(command);
    }
    vxctl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        whole().debug_assert();
    }

    #[test]
    fn names_are_given_once() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn help_says_how_a_command_is_typed_and_what_its_options_do() {
        let text = help("dump-flows").unwrap();
        assert!(text.contains("Usage: vxctl dump-flows [--strict] [--no-stats]"), "{text}");
        assert!(text.contains("--sort[=<FIELD>]") && text.contains("by ascending priority"), "{text}");
        let text = help("add-port").unwrap();
        assert!(text.contains("vxctl [--may-exist] add-port BR PORT [COLUMN[:KEY]=VALUE]..."), "{text}");
        let text = help("neigh").unwrap();
        assert!(
            text.contains("neigh del BR IP [VLAN]") && text.contains("neigh flush [--all] [BR]"),
            "{text}"
        );
        assert_eq!(help("fly"), None);
        for entry in COMMANDS {
            assert!(overview().contains(&entry.expected()), "{}", entry.name);
        }
    }
}
