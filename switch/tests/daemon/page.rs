//! The page at `/` of the metrics address, as a browser gets it and as Chromium shows it.

use crate::running::{BASE, Daemon, UNDERLAY};
use crate::support::skipped;
use serde_json::Value;
use std::process::Command;

#[track_caller]
fn body(answer: &str) -> &str {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1
}

#[track_caller]
fn json(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(body(&daemon.http(path))).unwrap()
}

/// What Chromium has made of the page after it asked the switch.
fn shown(daemon: &Daemon, view: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{}/#{view}", daemon.metrics))
        .output()
        .expect("chromium, which scripts/setup installs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_comes_from_the_switch_alone() {
    let daemon = Daemon::start(BASE);
    let page = daemon.http("/");
    let files: Vec<&str> = page
        .split('"')
        .filter(|text| text.starts_with('/') || text.contains("://"))
        .filter(|text| !text.starts_with("data:"))
        .collect();
    assert!(files.contains(&"/page/script.js") && files.contains(&"/page/style.css"), "{files:?}");
    for file in files.iter().chain(&["/page/topology.js", "/page/trace.js"]) {
        assert!(file.starts_with("/page/"), "{file} is somebody else's");
        let answer = daemon.http(file);
        assert!(
            answer.contains("content-security-policy: default-src 'none'; script-src 'self'"),
            "{answer}"
        );
        assert!(!body(&answer).replace("http://www.w3.org/2000/svg", "").contains("://"), "{file}");
    }
    // Nothing there takes more than a question.
    for path in ["/", "/page/overview", "/page/trace"] {
        assert!(daemon.http_with("POST", path).starts_with("HTTP/1.1 405"), "{path}");
    }
    assert!(daemon.http("/v1/document").starts_with("HTTP/1.1 404"), "the control API is elsewhere");
    daemon.stop();
}

#[test]
fn tables_are_searched_by_the_switch() {
    let port = |n: usize| {
        let name = format!("[[bridge.port]]\nname = \"vx{n}\"\ntype = \"vxlan\"\n");
        name + &format!("options = {{ remote_ip = \"192.168.1.2\", key = {} }}\n", n + 1)
    };
    let ports: String = (0..300).map(port).collect();
    let daemon = Daemon::start(&format!("{BASE}{ports}{UNDERLAY}"));
    daemon.ctl("fdb add br0 vx7 5 02:00:00:00:00:77");
    let all = json(&daemon, "/page/ports");
    assert_eq!((all["found"].as_u64(), all["rows"].as_array().unwrap().len()), (Some(305), 50));
    let one = json(&daemon, "/page/ports?search=VX299");
    assert_eq!((&one["found"], &one["rows"][0]["name"]), (&1.into(), &"vx299".into()), "{one}");
    assert_eq!(json(&daemon, "/page/ports?bridge=br-phy")["found"], 2);
    let last = json(&daemon, "/page/ports?sort=name&offset=304&limit=9");
    assert_eq!(
        (last["rows"].as_array().unwrap().len(), &last["rows"][0]["name"]),
        (1, &"vx99".into()),
        "{last}"
    );
    let entry = json(&daemon, "/page/fdb?search=00:77%20vlan=5");
    assert_eq!((&entry["found"], &entry["rows"][0]["port"]), (&1.into(), &"vx7".into()), "{entry}");
    assert_eq!(json(&daemon, "/page/fdb?search=00:77%20vlan=6")["found"], 0);
    assert_eq!(json(&daemon, "/page/neighbours?search=PERMANENT")["rows"][0]["ip"], "192.168.1.2");
    daemon.wait_for("p1", "tx_packets", 1);
    let megaflow = json(&daemon, "/page/megaflows?search=p0");
    assert_eq!(
        (&megaflow["found"], &megaflow["rows"][0]["actions"]),
        (&1.into(), &"p1".into()),
        "{megaflow}"
    );
    assert_eq!(json(&daemon, "/page/megaflows?bridge=br-phy")["found"], 0);
    assert!(daemon.http("/page/megaflows?bridge=br9").contains("no bridge named br9"));
    // The overview is as large as bridges and workers are many, not ports.
    let overview = json(&daemon, "/page/overview");
    let br0 = &overview["bridges"][0];
    assert_eq!((&br0["count"], br0["shown"].as_array().unwrap().len()), (&303.into(), 16), "{br0}");
    daemon.eventually("rates are between two looks", || {
        let row = &json(&daemon, "/page/ports?search=p1&sort=tx")["rows"][0];
        row["name"] == "p1" && row["rates"]["tx_packets"].as_f64().unwrap() > 0.0
    });
    daemon.stop();
}

#[test]
fn a_trace_from_the_page_makes_nothing() {
    let daemon = Daemon::start(&format!(
        "{BASE}[[bridge.port]]\nname = \"any\"\ntype = \"vxlan\"\noptions = {{ remote_ip = \"flow\", key = \"flow\" }}\n{UNDERLAY}"
    ));
    daemon.ctl("add-flow br0 priority=20,in_port=p1,actions=set_field:192.168.1.77->tun_dst,set_field:9->tun_id,output:any");
    let trace = || json(&daemon, "/page/trace?bridge=br0&flow=in_port=p1,icmp");
    for _ in 0..2 {
        let trace = trace();
        assert_eq!(trace["actions"], "drop(no_tunnel_next_hop)", "an adjacency was made: {trace}");
        assert!(trace["steps"].to_string().contains("no packet went to this remote yet"), "{trace}");
    }
    let refused = daemon.http("/page/trace?bridge=br0&flow=in_port=p9");
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("p9"), "{refused}");
    // The trace of an operator makes it, as a packet does.
    daemon.ctl("trace br0 in_port=p1,icmp");
    assert!(trace()["actions"].to_string().contains("remote=192.168.1.77"), "{}", trace());
    daemon.stop();
}

#[test]
fn chromium_shows_the_switch() {
    if Command::new("chromium").arg("--version").output().is_err() {
        return skipped("chromium_shows_the_switch", "needs Debian's chromium, which scripts/setup installs");
    }
    let tunnel = "[[bridge.port]]\nname = \"vx1\"\ntype = \"vxlan\"\noptions = { remote_ip = \"192.168.1.2\", key = 100 }\n";
    let daemon = Daemon::start(&format!("{BASE}{tunnel}{UNDERLAY}"));
    daemon.wait_for("p1", "tx_packets", 1);
    let map = shown(&daemon, "topology");
    for part in
        ["data-bridge=\"br0\"", "data-port=\"vx1\"", "data-vtep=\"192.168.1.2\"", "VTEP 192.168.1.1/24"]
    {
        assert!(map.contains(part), "no {part} in {map}");
    }
    let load = shown(&daemon, "load");
    assert!(load.contains("lcore 0") && load.contains("p0/0"), "{load}");
    let list = shown(&daemon, "megaflows?search=p0");
    assert!(list.contains("in_port(p0)") && list.contains("1 to 1 of 1"), "{list}");
    let trace = shown(&daemon, "trace?bridge=br0&flow=in_port=p0,icmp");
    assert!(trace.contains("data-step=\"0\"") && trace.contains("end-good"), "{trace}");
    let wrong = shown(&daemon, "trace?bridge=br0&flow=in_port=%3Cb%3Ep9%3C/b%3E");
    assert!(
        wrong.contains("class=\"alert\"") && wrong.contains("&lt;b&gt;p9"),
        "what was typed is text: {wrong}"
    );
    daemon.stop();
}
