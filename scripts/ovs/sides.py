"""A database server of Open vSwitch with its own switch or with vxswitch, for the scripts beside this file. They need
root: each side is a network namespace, which is removed at the end."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
EAL = "--no-huge --no-shconf --no-pci --no-telemetry -m 256"
PATIENCE = 30
VXSWITCH = f"{ROOT}/target/debug/vxswitch"


class Side:
    """A database server and a switch, in a network namespace and a directory of their own."""

    def __init__(self, name, directory):
        self.netns = f"vxc-{os.getpid()}-{name}"
        self.dir = os.path.join(directory, name)
        os.mkdir(self.dir)
        self.children = []
        self.namespaces = []
        self.env = dict(os.environ, OVS_RUNDIR=self.dir, OVS_DBDIR=self.dir, OVS_LOGDIR=self.dir, TZ="UTC")
        check("ip", "netns", "add", self.netns)
        self.namespaces.append(self.netns)
        self.ip("link", "set", "lo", "up")
        self.inside("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        for number in range(1, 5):
            mac, peer = f"02:00:00:00:01:0{number}", f"02:00:00:00:02:0{number}"
            self.ip("link", "add", f"p{number}", "address", mac, "type", "veth", "peer", "name", f"h{number}",
                    "address", peer)
            self.ip("link", "set", f"p{number}", "up")
            self.ip("link", "set", f"h{number}", "up")
        check("ovsdb-tool", "create", f"{self.dir}/conf.db", SCHEMA)
        self.start("ovsdb-server", f"{self.dir}/conf.db", f"--remote=punix:{self.dir}/db.sock",
                   f"--unixctl={self.dir}/db.ctl")
        wait("the database", lambda: os.path.exists(f"{self.dir}/db.sock"))
        self.must("ovs-vsctl --no-wait init")

    def ip(self, *words):
        check("ip", "-n", self.netns, *words)

    def inside(self, *words):
        check("ip", "netns", "exec", self.netns, *words)

    def start(self, *words):
        log = open(os.path.join(self.dir, os.path.basename(words[0]) + ".log"), "wb")
        child = subprocess.Popen(["ip", "netns", "exec", self.netns, *words], env=self.env, cwd=self.dir,
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.children.append(child)
        return child

    def run(self, line, timeout=PATIENCE * 2):
        """What a command prints, and its exit status."""
        words = shlex.split(line)
        done = subprocess.run(["ip", "netns", "exec", self.netns, *words], env=self.env, cwd=self.dir,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        return done.stdout + done.stderr, done.returncode

    def ovs(self):
        """Starts Debian's ovs-vswitchd, and returns its process."""
        child = self.start("ovs-vswitchd", f"unix:{self.dir}/db.sock", f"--pidfile={self.dir}/ovs-vswitchd.pid",
                           f"--unixctl={self.dir}/vs.ctl", "-vconsole:info")
        wait("ovs-vswitchd", lambda: os.path.exists(f"{self.dir}/ovs-vswitchd.pid"))
        # Where ovs-appctl looks for a daemon whose pidfile it finds.
        with open(f"{self.dir}/ovs-vswitchd.pid", encoding="ascii") as file:
            os.symlink("vs.ctl", f"{self.dir}/ovs-vswitchd.{file.read().strip()}.ctl")
        return child

    def vxswitch(self, program, lcores="0"):
        """Starts vxswitch in its place, and returns its process."""
        child = self.start(os.path.abspath(program), *EAL.split(), "-l", lcores, "--", "--total-num-mbufs", "8191", "--metrics", "127.0.0.1:0",
                           "--control", f"{self.dir}/control.sock", "--ovsdb", f"unix:{self.dir}/db.sock")
        wait("vxswitch", lambda: os.path.exists(f"{self.dir}/ovs-vswitchd.pid"))
        return child

    def must(self, line, timeout=PATIENCE * 2):
        """What a command prints that must succeed."""
        text, status = self.run(line, timeout)
        if status:
            sys.exit(f"{line}: exit status {status}: {text}")
        return text

    def hosts(self):
        """Two hosts in namespaces of their own at the other ends of p1 and p2, which know each other's MAC address: their
        names. They go with the side."""
        names = [f"{self.netns}-h{number}" for number in (1, 2)]
        for number, name in enumerate(names, 1):
            check("ip", "netns", "add", name)
            self.namespaces.append(name)
            check("ip", "netns", "exec", name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
            self.ip("link", "set", f"h{number}", "netns", name)
            check("ip", "-n", name, "address", "add", f"10.0.0.{number}/24", "dev", f"h{number}")
            check("ip", "-n", name, "link", "set", f"h{number}", "up")
            check("ip", "-n", name, "neigh", "add", f"10.0.0.{3 - number}", "lladdr", f"02:00:00:00:02:0{3 - number}",
                  "dev", f"h{number}")
        return names

    def stop(self):
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)


def check(*words):
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def wait(what, ready):
    start = time.monotonic()
    while not ready():
        if time.monotonic() - start > PATIENCE:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.02)


def with_sides(names, job):
    """Calls the job with sides of these names, and ends them."""
    directory = tempfile.mkdtemp(prefix="vxs-ovs.")
    sides = []
    try:
        for name in names:
            sides.append(Side(name, directory))
        return job(*sides)
    finally:
        for side in sides:
            side.stop()
        shutil.rmtree(directory)
