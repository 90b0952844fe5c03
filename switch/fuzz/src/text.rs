//! Text from users: rules, command lines, files.

use config::Document;
use config::vsctl::{apply, parse_transaction};
use flow::ofp::{
    FlowStats, PortMap, format_flow, format_group, format_key, format_match, format_meter, parse_flow,
    parse_flow_match, parse_flow_mod, parse_group, parse_group_filter, parse_key, parse_meter,
    parse_meter_filter,
};

/// Rules, groups, meters: what is taken prints to what is taken as the same again; errors point into the text.
pub fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let names: PortMap = [("p0", 1), ("vxlan1", 3), ("a, \"b\" (c", 4)]
        .map(|(name, port)| (name.to_owned(), port))
        .into_iter()
        .collect();
    let flow = parse_flow(text, &names);
    if let Ok(spec) = &flow {
        for stats in [None, Some(FlowStats::default())] {
            let line = format_flow(spec, stats.as_ref(), &names);
            assert_eq!(parse_flow(&line, &names).as_ref(), Ok(spec), "{line}");
        }
    }
    let filter = parse_flow_match(text, &names);
    if let Ok(filter) = &filter {
        let line = format_match(&filter.matches, None, &names);
        assert_eq!(parse_flow_match(&line, &names).map(|again| again.matches), Ok(filter.matches), "{line}");
    }
    let key = parse_key(text, &names);
    if let Ok(key) = &key {
        let line = format_key(key, &names);
        assert_eq!(parse_key(&line, &names).as_ref(), Ok(key), "{line}");
    }
    let group = parse_group(text, &names);
    if let Ok(group) = &group {
        let line = format_group(group, &names);
        assert_eq!(parse_group(&line, &names).as_ref(), Ok(group), "{line}");
    }
    let meter = parse_meter(text);
    if let Ok(meter) = &meter {
        let line = format_meter(meter);
        assert_eq!(parse_meter(&line).as_ref(), Ok(meter), "{line}");
    }
    let errors = [
        flow.err(),
        filter.err(),
        key.err(),
        group.err(),
        meter.err(),
        parse_flow_mod(text, &names).err(),
        parse_group_filter(text).err(),
        parse_meter_filter(text).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(!error.expected.is_empty());
        let at = error.position..error.position + error.token.len();
        assert_eq!(text.get(at), Some(error.token.as_str()));
    }
}

/// A switch to type commands at.
fn switch() -> Document {
    let text = "[[bridge]]\nname = \"br0\"\n\n[[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_null0\" }\n\n\
                [[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\noptions = { remote_ip = \"192.168.1.2\", key = \"flow\" }\n";
    config::parse_str("switch", text, &config::accept_flows).expect("the fixture is valid")
}

/// `ovs-vsctl`'s grammar, a word a line: a transaction is done or leaves all as it was, and what it makes is valid,
/// and reads back from its own file.
pub fn vsctl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let Ok(commands) = parse_transaction(&words) else { return };
    let before = switch();
    let mut document = before.clone();
    match apply(&mut document, &commands) {
        Err(_) => assert_eq!(document, before, "a failed transaction changes nothing"),
        Ok(applied) => {
            assert_eq!(applied.changed, document != before);
            assert_eq!(applied.outputs.len(), commands.len());
            assert_eq!(config::validate(&document), []);
            reads_back(&document);
        }
    }
}

/// Files: what is valid is written so that it reads back as the same.
pub fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse_str("file", text, &config::accept_flows) {
        Ok(document) => reads_back(&document),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

fn reads_back(document: &Document) {
    let text = document.to_toml();
    match config::parse_str("written", &text, &config::accept_flows) {
        Ok(again) => assert_eq!(again, *document),
        Err(errors) => panic!("{errors}\n{text}"),
    }
}
