//! A virtual machine: QEMU without KVM boots Debian's cloud kernel, which `scripts/setup` fetches, with an initramfs of busybox and
//! a few programs of this machine. Commands go in, and their output comes back, by its serial port.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Programs of this machine that the guest has, with their libraries, in `/usr/bin`. Its shell prefers busybox' own, so `ip` is to
/// be called by its path where more is wanted.
const PROGRAMS: [&str; 2] = ["iperf3", "ip"];
/// Modules that it loads, with what they need.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_net", "8021q", "geneve", "ip_gre"];
/// How long it may take to boot, and a command to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// Printed when it waits for a command; and after one, with its status.
const READY: &str = "@@ready";
const ENDED: &str = "@@ended ";

/// A running guest. It ends when it is dropped.
pub struct Guest {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// How a guest is connected.
pub enum Net<'a> {
    /// By vhost-user, with so many pairs of queues: QEMU makes the socket, or connects to it.
    VhostUser { socket: &'a Path, listens: bool, queues: u16 },
    /// By a tap of QEMU's own, in this network namespace.
    Tap { netns: &'a str, name: &'a str },
}

/// The kernel's folder, or why there is no guest.
fn kernel() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_BIN_EXE_vxswitch")).ancestors().nth(2).expect("a target directory");
    let folder = target.join("guest");
    if !folder.join("installed").exists() {
        return Err("needs the kernel of a guest (scripts/setup)".to_owned());
    }
    let tools = [
        ("qemu-system-x86_64", "--version"),
        ("busybox", "--help"),
        ("cpio", "--version"),
        ("modprobe", "-V"),
    ];
    for (tool, option) in tools {
        let found = Command::new(tool).arg(option).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            return Err(format!("needs {tool} (scripts/setup)"));
        }
    }
    Ok(folder)
}

fn output(program: &str, arguments: &[&str]) -> String {
    super::net::run(Command::new(program).args(arguments))
}

fn find(program: &str) -> String {
    output("which", &[program]).trim().to_owned()
}

/// Makes the initramfs; its path.
fn initramfs(kernel: &Path, dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for folder in ["bin", "m", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let copy = |from: &str, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{from}: {error}"));
    };
    copy(&find("busybox"), "bin/busybox");
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("a link");
    for program in PROGRAMS {
        let path = find(program);
        copy(&path, &format!("usr/bin/{program}"));
        for library in output("ldd", &[&path]).split_whitespace().filter(|word| word.starts_with('/')) {
            copy(library, library);
        }
    }
    let version = output("ls", &[&kernel.join("lib/modules").display().to_string()]).trim().to_owned();
    let kernel = kernel.display().to_string();
    let mut modules: Vec<String> = Vec::new();
    for module in MODULES {
        let needed = output("modprobe", &["-d", &kernel, "-S", &version, "--show-depends", module]);
        for path in needed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = path.trim().to_owned();
            if !modules.contains(&path) {
                modules.push(path);
            }
        }
    }
    let mut init =
        "#!/bin/sh\n/bin/busybox --install -s /bin 2>/dev/null\nexport PATH=/usr/bin:/bin\n".to_owned();
    init += "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n";
    for module in &modules {
        let name = Path::new(module).file_name().expect("a file").to_string_lossy().into_owned();
        copy(module, &format!("m/{name}"));
        init += &format!("insmod /m/{name}\n");
    }
    init += "stty raw -echo\nip link set lo up\n";
    init += &format!(
        "echo {READY}\nwhile read -r line; do eval \"$line\"; echo \"{ENDED}$?\"; done\npoweroff -f\n"
    );
    fs::write(root.join("init"), init).expect("init");
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("init");
    let file = dir.join("initramfs");
    let pack = format!("cd {} && find . | cpio --quiet -o -H newc > {}", root.display(), file.display());
    output("sh", &["-c", &pack]);
    file
}

impl Guest {
    /// Starts a guest with one device, `eth0`, under this MAC. `dir` is for its files.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn boot(net: &Net<'_>, mac: &str, dir: &Path) -> Result<Guest, String> {
        let kernel = kernel()?;
        let initramfs = initramfs(&kernel, dir);
        let images = fs::read_dir(kernel.join("boot")).expect("boot").filter_map(Result::ok);
        let image =
            images.map(|entry| entry.path()).find(|path| path.display().to_string().contains("vmlinuz"));
        let mut command = match net {
            Net::VhostUser { .. } => Command::new("qemu-system-x86_64"),
            Net::Tap { netns, .. } => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns, "qemu-system-x86_64"]);
                command
            }
        };
        command.args(["-accel", "tcg", "-m", "256", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        command.arg("-kernel").arg(image.expect("a kernel")).arg("-initrd").arg(initramfs);
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        command.args(["-object", "memory-backend-memfd,id=m,size=256M,share=on", "-numa", "node,memdev=m"]);
        // Without interrupts by message: with them and without KVM, QEMU 7.2 ends in msix_set_vector_notifiers.
        let mut device = format!("virtio-net-pci,netdev=n0,mac={mac},vectors=0");
        match net {
            Net::VhostUser { socket, listens, queues } => {
                let role = if *listens { "server=on,wait=off" } else { "server=off,reconnect=1" };
                command.arg("-chardev").arg(format!("socket,id=c0,path={},{role}", socket.display()));
                command.arg("-netdev").arg(format!("vhost-user,id=n0,chardev=c0,queues={queues}"));
                if *queues > 1 {
                    device += ",mq=on";
                    // Its driver uses as many as it has CPUs.
                    command.arg("-smp").arg(queues.to_string());
                }
            }
            Net::Tap { name, .. } => {
                command.arg("-netdev").arg(format!("tap,id=n0,ifname={name},script=no,downscript=no"));
            }
        }
        command.arg("-device").arg(device);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| format!("qemu-system-x86_64: {error}"))?;
        let (input, out) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if said.send(line.trim_end_matches('\r').to_owned()).is_err() {
                    return;
                }
            }
        });
        Ok(Guest { child, input, lines })
    }

    /// Waits until it has booted. By vhost-user that is when the switch is there, too: QEMU asks it for features first.
    #[track_caller]
    pub fn wait(&self) {
        self.until(READY);
    }

    /// What it prints until a line that begins so; and the rest of that line.
    #[track_caller]
    fn until(&self, end: &str) -> (String, String) {
        let since = Instant::now();
        let mut text = String::new();
        loop {
            let left = PATIENCE.saturating_sub(since.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => match line.split_once(end) {
                    Some((before, rest)) => return (text + before, rest.to_owned()),
                    None => text = text + &line + "\n",
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {end:?} of the guest within {PATIENCE:?}: {text}")
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the guest ended: {text}"),
            }
        }
    }

    /// Runs a command of its shell; what it printed. Panics when it fails.
    #[track_caller]
    pub fn sh(&mut self, line: &str) -> String {
        let (text, status) = self.run(line);
        assert_eq!(status, "0", "the guest's {line}: {text}");
        text
    }

    /// The same, with its status.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> (String, String) {
        writeln!(self.input, "{line}").expect("the guest listens");
        self.until(ENDED)
    }

    /// Gives `eth0` an address.
    pub fn configure(&mut self, mtu: u16, address: &str) {
        self.sh(&format!(
            "ip addr flush dev eth0; ip addr add {address} dev eth0; ip link set eth0 mtu {mtu} up"
        ));
    }

    /// Pings from it; every request has to be answered.
    #[track_caller]
    pub fn ping(&mut self, to: &str) {
        // Who is asked first may have to be found first.
        let (text, status) = self.run(&format!("ping -q -c 3 -W 5 {to}"));
        assert!(status == "0" && text.contains(" 3 packets received"), "{text}");
    }

    /// Measures TCP to an iperf3 server, in bits a second. `options` may say `-R`.
    #[track_caller]
    pub fn iperf3(&mut self, server: &super::net::Host, to: &str, seconds: u32, options: &str) -> f64 {
        let listening = server.background("iperf3 -s -1");
        super::eventually("iperf3 listens", Duration::from_secs(5), || {
            (!server.sh("ss -Hltn sport = :5201").trim().is_empty()).then_some(())
        });
        let json = self.sh(&format!("iperf3 -J -c {to} -t {seconds} {options}"));
        drop(listening);
        let json: serde_json::Value = serde_json::from_str(&json).expect("iperf3 prints JSON");
        json["end"]["sum_received"]["bits_per_second"].as_f64().expect("iperf3 reports throughput")
    }

    /// Checksum errors that its kernel has seen, in TCP, UDP and ICMP.
    pub fn checksum_errors(&mut self) -> u64 {
        let text = self.sh("cat /proc/net/snmp");
        let mut errors = 0;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks(2) {
            let [names, values] = pair else { continue };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                if name == "InCsumErrors" {
                    errors += value.parse::<u64>().expect("a number");
                }
            }
        }
        errors
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
