//! What Prometheus is told: the families, both formats, and the rules and the dashboard made of them.

use crate::running::{BASE, Daemon, EAL, UNDERLAY};
use crate::support::skipped;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TUNNELS: &str = r#"
[[bridge.port]]
name = "vx1"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
[[bridge.port]]
name = "vx2"
type = "vxlan"
options = { remote_ip = "10.9.9.9", key = 101 }
bfd = { enable = "true" }
"#;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

/// Runs promtool with this on its stdin; it must be content. Says whether there is one.
fn promtool(arguments: &[&str], input: &str) -> bool {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        skipped("promtool", "needs Debian's prometheus, which scripts/setup installs");
        return false;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    true
}

#[test]
fn what_is_up_and_what_there_is_to_use() {
    let daemon = Daemon::start_with(EAL, &format!("{BASE}{TUNNELS}{UNDERLAY}"), &[]);
    daemon.wait_for("p1", "tx_packets", 1);
    daemon.ctl("add-flow br0 priority=20,in_port=p0,actions=output:p1,output:vx1");
    daemon.wait_for("vx1", "tx_packets", 1);
    let answer = daemon.http("/metrics");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "vxswitch_port_link_up{bridge=\"br0\",port=\"p0\",type=\"dpdk\"} 1",
        "vxswitch_tunnel_ready{key=\"100\",port=\"vx1\",remote=\"192.168.1.2\"} 1",
        "vxswitch_tunnel_ready{key=\"101\",port=\"vx2\",remote=\"10.9.9.9\"} 0",
        "vxswitch_bfd_forwarding{port=\"vx2\"} 0",
        "vxswitch_tunnel_remotes{state=\"ready\"} 1",
        "vxswitch_tunnel_remotes{state=\"no_route\"} 1",
        "vxswitch_neighbours{bridge=\"br-phy\",state=\"PERMANENT\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "no {line} in {text}");
    }
    let value = |start: &str| -> f64 {
        let line =
            text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}: {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(value("vxswitch_vtep_tx_packets_total{port=\"vx1\",remote=\"192.168.1.2\"}") > 0.0);
    assert!(value("vxswitch_vni_tx_bytes_total{port=\"vx1\",vni=\"100\"}") > 0.0);
    assert!(value("vxswitch_flow_setup_seconds_count") > 0.0);
    let (most, all) =
        ("vxswitch_flow_setup_seconds_bucket{le=\"+Inf\"}", "vxswitch_flow_setup_seconds_count");
    assert!((value(most) - value(all)).abs() < 0.5);
    assert!(text.contains("vxswitch_build_info{version=\""), "{text}");
    assert!(value("vxswitch_rx_queue_packets_total{lcore=\"0\",port=\"p0\",queue=\"0\"}") > 0.0);
    assert!(
        (value("vxswitch_mbufs{state=\"free\"}") + value("vxswitch_mbufs{state=\"used\"}") - 8191.0).abs()
            < 0.5
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - value("vxswitch_start_time_seconds")).abs() < 600.0);
    if promtool(&["check", "metrics"], text) {
        promtool(&["check", "rules", file("alerts.yml").to_str().unwrap()], "");
    }
    // Rules and panels ask for families that there are.
    let families: BTreeSet<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in ["alerts.yml", "grafana-dashboard.json"] {
        let used = std::fs::read_to_string(file(name)).unwrap();
        let words = used.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut seen = 0;
        for word in words.filter(|word| word.starts_with("vxswitch_")) {
            seen += 1;
            // Those that need an event to have a line.
            let rare = word == "vxswitch_drops_total";
            let family = word.trim_end_matches("_bucket");
            assert!(rare || families.contains(family), "{name}: there is no {word}");
        }
        assert!(seen > 5, "{name}");
    }
    let errors = daemon.errors();
    for event in
        ["up port=\"vx1\" remote=192.168.1.2", "down port=\"vx2\" remote=10.9.9.9 reason=\"no_route\""]
    {
        assert!(errors.contains(event), "no {event} in {errors}");
    }
    daemon.stop();
}

#[test]
fn scrapers_that_ask_for_openmetrics_get_it() {
    let daemon = Daemon::start(BASE);
    let answer =
        daemon.http_asking("/metrics", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert!(
        text.contains("# TYPE vxswitch_misses counter\n") && text.contains("\nvxswitch_misses_total{"),
        "{text}"
    );
    assert!(text.contains("vxswitch_upcall_answer_seconds_bucket{le=\"+Inf\"}"), "{text}");
    daemon.stop();
}
