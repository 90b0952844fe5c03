//! FRR in network namespaces.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The VNI of both leaves.
pub const VNI: u32 = 100;
pub const WITHIN: Duration = Duration::from_mins(1);

pub fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A namespace with FRR in it; both end with the value.
pub struct Leaf {
    pub netns: String,
    dir: PathBuf,
    pub daemons: Vec<Child>,
}

impl Leaf {
    pub fn new(name: &str, dir: &Path) -> Leaf {
        let netns = format!("evpn-{name}-{}", std::process::id());
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("directory");
        // FRR gives up root.
        run(&format!("chmod 777 {}", dir.display()));
        run(&format!("ip netns add {netns}; ip -n {netns} link set lo up"));
        Leaf { netns, dir, daemons: Vec::new() }
    }

    pub fn ip(&self, command: &str) -> String {
        run(&format!("ip -n {} {command}", self.netns))
    }

    pub fn start_frr(&mut self, id: u8) {
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
    pub fn kill_frr(&mut self) {
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

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Two leaves with a cable between them: the first ours, the second Linux's own bridge and vxlan device.
pub fn pair(name: &str, dir: &Path) -> (Leaf, Leaf) {
    let ours = Leaf::new(&format!("{name}-ours"), dir);
    let theirs = Leaf::new(&format!("{name}-linux"), dir);
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
    (ours, theirs)
}

/// Whether the test can run; says so past the harness' capture of output, and in the file from which `scripts/test` makes
/// its summary, when it cannot.
pub fn can_run(test: &str) -> bool {
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
