//! FRR as it is: a Linux VTEP with an FRR of its own on the other side of a veth pair, both in network namespaces.

use evpn::table::{Down, Remote, Switch};
use evpn::{Shadow, Times};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

const VNI: u32 = 100;
const WITHIN: Duration = Duration::from_mins(1);
const TIMES: Times = Times { keep: Duration::ZERO, hold: Duration::from_secs(15) };

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace with FRR in it; both end with the value.
struct Leaf {
    netns: String,
    dir: PathBuf,
    daemons: Vec<Child>,
}

impl Leaf {
    fn new(name: &str, dir: &Path) -> Leaf {
        let netns = format!("evpn-{name}-{}", std::process::id());
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("directory");
        // FRR gives up root.
        run(&format!("chmod 777 {}", dir.display()));
        run(&format!("ip netns add {netns}; ip -n {netns} link set lo up"));
        Leaf { netns, dir, daemons: Vec::new() }
    }

    fn ip(&self, command: &str) -> String {
        run(&format!("ip -n {} {command}", self.netns))
    }

    fn start_frr(&mut self, id: u8) {
        let config = format!(
            "router bgp 65000\n bgp router-id 192.0.2.{id}\n no bgp default ipv4-unicast\n neighbor 192.0.2.{peer} \
             remote-as 65000\n neighbor 192.0.2.{peer} timers connect 1\n address-family l2vpn evpn\n  neighbor \
             192.0.2.{peer} activate\n  advertise-all-vni\n exit-address-family\n",
            peer = 3 - id
        );
        std::fs::write(self.dir.join("bgpd.conf"), config).expect("bgpd.conf");
        std::fs::write(self.dir.join("zebra.conf"), "").expect("zebra.conf");
        for daemon in ["zebra", "bgpd"] {
            for socket in ["zserv.api", "bgpd.vty"] {
                if daemon == "zebra" {
                    let _ = std::fs::remove_file(self.dir.join(socket));
                }
            }
            let dir = self.dir.display();
            let line = format!(
                "exec ip netns exec {} /usr/lib/frr/{daemon} -u frr -g frr -f {dir}/{daemon}.conf -i {dir}/{daemon}.pid \
                 -z {dir}/zserv.api --vty_socket {dir} -P 0 --log file:{dir}/{daemon}.log",
                self.netns
            );
            let child =
                Command::new("sh").args(["-c", &line]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            self.daemons.push(child.expect("FRR"));
            let socket = self.dir.join(if daemon == "zebra" { "zserv.api" } else { "bgpd.vty" });
            until(&format!("{daemon} runs"), || socket.exists().then_some(()));
        }
    }
}

impl Leaf {
    /// Nothing is tidied up.
    fn kill_frr(&mut self) {
        for mut daemon in self.daemons.drain(..) {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.kill_frr();
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).status();
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Does what the switch does with a change.
fn carry_out(switch: &mut Switch, down: &Down) {
    for mac in &down.forget {
        switch.remote.remove(mac);
    }
    for (mac, remote) in &down.install {
        switch.local.remove(mac);
        switch.remote.insert(*mac, *remote);
    }
    if let Some(vteps) = &down.vteps {
        switch.vteps.clone_from(vteps);
    }
}

fn sync(shadow: &mut Shadow, switch: &mut Switch) {
    shadow.changed().expect("a look at the kernel");
    let downs = shadow.sync(&BTreeMap::from([(VNI, switch.clone())])).expect("sync");
    if let Some(down) = downs.get(&VNI) {
        carry_out(switch, down);
    }
}

/// Whether the test can run; says so past the harness' capture of output, and in the file from which `scripts/test` makes
/// its summary, when it cannot.
fn can_run(test: &str) -> bool {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if is_root && Path::new("/usr/lib/frr/bgpd").exists() {
        return true;
    }
    let line = format!("{test}: needs root and FRR (scripts/setup installs it)\n");
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED {line}").as_bytes());
    if let Some(path) = std::env::var_os("VXSWITCH_SKIPPED")
        && let Ok(mut file) = std::fs::File::options().append(true).create(true).open(Path::new(&path))
    {
        let _ = file.write_all(line.as_bytes());
    }
    false
}

#[test]
fn routes_of_types_2_and_3_both_ways_and_hosts_that_move() {
    if !can_run("routes_of_types_2_and_3_both_ways_and_hosts_that_move") {
        return;
    }
    let dir = std::env::temp_dir().join(format!("evpn-{}", std::process::id()));
    let (mut ours, mut theirs) = (Leaf::new("ours", &dir), Leaf::new("linux", &dir));
    run(&format!("ip link add u netns {} type veth peer name u netns {}", ours.netns, theirs.netns));
    for (leaf, id) in [(&ours, 1), (&theirs, 2)] {
        leaf.ip("link set u up");
        leaf.ip(&format!("address add 192.0.2.{id}/24 dev u"));
    }
    theirs.ip("link add br0 type bridge");
    theirs.ip(&format!("link add vx type vxlan id {VNI} dstport 4789 local 192.0.2.2 nolearning"));
    theirs.ip("link add host type veth peer name hostp");
    for device in ["vx", "host"] {
        theirs.ip(&format!("link set {device} master br0"));
    }
    for device in ["br0", "vx", "host", "hostp"] {
        theirs.ip(&format!("link set {device} up"));
    }
    let mut shadow = Shadow::open(Some(&ours.netns), TIMES).expect("shadow");
    shadow.set_vnis(&[(VNI, [192, 0, 2, 1].into())].into()).expect("devices");
    ours.start_frr(1);
    theirs.start_frr(2);

    let (here, there) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let vtep = IpAddr::from([192, 0, 2, 2]);
    let mut switch = Switch { local: [(here, false)].into(), ..Switch::default() };
    let fdb = |leaf: &Leaf, mac: MacAddr| {
        let rows = run(&format!("bridge -n {} fdb show br br0", leaf.netns));
        rows.lines().filter(|row| row.starts_with(&mac.to_string())).collect::<Vec<_>>().join("\n")
    };
    until("the flood list", || {
        sync(&mut shadow, &mut switch);
        (switch.vteps.get(&vtep) == Some(&true)).then_some(())
    });
    until("our MAC at the other side", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, here).contains("dst 192.0.2.1").then_some(())
    });
    run(&format!("bridge -n {} fdb add {there} dev host master static", theirs.netns));
    until("its MAC here", || {
        sync(&mut shadow, &mut switch);
        (switch.remote.get(&there) == Some(&Remote { vtep, sticky: false })).then_some(())
    });
    // Its host comes here: heard at a local port, which takes its entry's place.
    switch.remote.remove(&there);
    switch.local.insert(there, false);
    until("the host that came", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, there).contains("dst 192.0.2.1").then_some(())
    });
    // And goes back.
    run(&format!("bridge -n {} fdb replace {there} dev host master static", theirs.netns));
    until("the host that went", || {
        sync(&mut shadow, &mut switch);
        (switch.remote.contains_key(&there) && !switch.local.contains_key(&there)).then_some(())
    });
    // What does not move, in both directions.
    switch.local.insert(here, true);
    until("our sticky MAC there", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, here).contains("sticky").then_some(())
    });
    let stuck = MacAddr([2, 0, 0, 0, 0, 5]);
    run(&format!("bridge -n {} fdb add {stuck} dev host master static sticky", theirs.netns));
    until("its sticky MAC here", || {
        sync(&mut shadow, &mut switch);
        (switch.remote.get(&stuck) == Some(&Remote { vtep, sticky: true })).then_some(())
    });

    // FRR dies. What it has said stays, and what is not said again goes when the next one has had its time.
    let (stays, goes) = (MacAddr([2, 0, 0, 0, 0, 3]), MacAddr([2, 0, 0, 0, 0, 4]));
    for mac in [stays, goes] {
        run(&format!("bridge -n {} fdb add {mac} dev host master static", theirs.netns));
    }
    until("two more hosts", || {
        sync(&mut shadow, &mut switch);
        [stays, goes].iter().all(|mac| switch.remote.contains_key(mac)).then_some(())
    });
    assert!(shadow.zebra().is_some() && !shadow.is_holding());
    ours.kill_frr();
    until("its end is seen", || {
        sync(&mut shadow, &mut switch);
        shadow.is_holding().then_some(())
    });
    let installed = |leaf: &Leaf| run(&format!("bridge -n {} fdb show br vxsbr{VNI}", leaf.netns));
    assert!(!installed(&ours).contains("192.0.2.2"), "left behind:\n{}", installed(&ours));
    run(&format!("bridge -n {} fdb del {goes} dev host master", theirs.netns));
    ours.start_frr(1);
    let is_held = |switch: &Switch| {
        [stays, goes, there, stuck].iter().all(|mac| switch.remote.contains_key(mac))
            && switch.vteps.get(&vtep) == Some(&true)
    };
    until("the route is there again", || {
        sync(&mut shadow, &mut switch);
        assert!(is_held(&switch) || !shadow.is_holding(), "{switch:?}");
        installed(&ours).contains(&stays.to_string()).then_some(())
    });
    until("what was withdrawn meanwhile is gone", || {
        sync(&mut shadow, &mut switch);
        (!shadow.is_holding() && !switch.remote.contains_key(&goes)).then_some(())
    });
    assert!(switch.remote.contains_key(&stays) && switch.vteps.get(&vtep) == Some(&true), "{switch:?}");
    assert!(fdb(&theirs, here).contains("192.0.2.1"), "ours is announced again");

    run(&format!("bridge -n {} fdb del {there} dev host master", theirs.netns));
    switch.local.remove(&here);
    until("our withdrawal there", || {
        sync(&mut shadow, &mut switch);
        (!fdb(&theirs, here).contains("192.0.2.1")).then_some(())
    });
    until("its withdrawal here", || {
        sync(&mut shadow, &mut switch);
        (!switch.remote.contains_key(&there)).then_some(())
    });
    // Ours are removed, and with them the route.
    shadow.set_vnis(&BTreeMap::new()).expect("no devices");
    assert!(!ours.ip("link show").contains("vxs"), "devices left");
    drop((ours, theirs));
    let _ = std::fs::remove_dir_all(dir);
}
