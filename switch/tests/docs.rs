//! The tables in the documents are what the code says. `UPDATE_DOCS=1 cargo test -p vxswitch --test docs` writes them anew.

mod support;

use flow::drop::DropReason;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::daemon::Daemon;
use support::{eventually, turn};
use wire::parse::Anomaly;

fn operations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")
}

/// Compares what stands between `<!-- NAME -->` and `<!-- /NAME -->` with `table`, or replaces it.
fn check(name: &str, table: &str) {
    let path = operations();
    let text = fs::read_to_string(&path).expect("docs/operations.md");
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = text.find(&start).unwrap_or_else(|| panic!("no {start} in docs/operations.md")) + start.len();
    let to = from + text[from..].find(&end).unwrap_or_else(|| panic!("no {end} in docs/operations.md"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{}{table}{}", &text[..from], &text[to..])).expect("docs/operations.md");
    } else {
        assert_eq!(&text[from..to], table, "docs/operations.md is out of date; run with UPDATE_DOCS=1");
    }
}

fn table<'a>(head: [&str; 2], rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = format!("| {} | {} |\n|---|---|\n", head[0], head[1]);
    for (name, meaning) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {} |", meaning.replace('|', "\\|"));
    }
    text
}

// One test, because all tables are in one file.
#[test]
fn the_tables_of_operations_md_are_true() {
    let _turn = turn();
    let reasons = DropReason::ALL.iter().map(|reason| (reason.name(), reason.description()));
    check("drops", &table(["reason", "what happened"], reasons));
    let anomalies = Anomaly::ALL.iter().map(|anomaly| (anomaly.name(), anomaly.description()));
    check("malformed", &table(["kind", "what was wrong"], anomalies));

    let mut daemon = Daemon::start(CONFIG, "0");
    // The family of drops has a line once something was dropped.
    let answer = eventually("metrics of every family", Duration::from_secs(10), || {
        Some(daemon.get("/metrics"))
            .filter(|answer| answer.contains("vxswitch_drops_total{") && answer.contains("vxswitch_vtep_"))
    });
    daemon.stop();
    let mut help: Vec<(&str, &str)> =
        answer.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    help.sort_unstable();
    assert!(help.len() > 10, "{answer}");
    check("metrics", &table(["metric", "meaning"], help.into_iter()));
}

/// A port of each kind, so that every metric has a line.
const CONFIG: &str = r#"
[[bridge]]
name = "br0"
flows = ["in_port=p0,actions=output:vx"]
groups = ["group_id=1,type=all"]
meters = ["meter=1,bands=type=drop rate=1"]

[[bridge.port]]
name = "p0"
type = "dpdk"
options = { dpdk-devargs = "net_null0" }

[[bridge.port]]
name = "vx"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
bfd = { enable = "true" }

[[bridge]]
name = "br-phy"
address = ["192.168.1.1/24"]

[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "net_null1,no-rx=1" }
"#;
