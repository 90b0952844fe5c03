"""What is measured: a bridge with the device of a host (vxb-h) and a tunnel to a Linux VTEP over another (vxb-u)."""

import os
import re
import shutil

from lab import PATIENCE, SWITCH_NICE, Failure

# With -nogso, tunnel packets cross the underlay one by one.
SYSTEMS = ("kernel", "ovs", "net_tap", "tap", "kernel-nogso", "tap-nogso")
OVS_VSWITCHD = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
EAL = "--no-huge --no-shconf --no-pci --no-telemetry"
# Control threads are on the first CPU, the worker on the second.
CPUS = sorted(os.sched_getaffinity(0))[:2]


def kind(system):
    """The system, and whether the kernel's tunnel GSO is on."""
    name, _, nogso = system.partition("-")
    return name, not nogso


def missing(systems):
    """Programs and files that are not there, each with where it comes from."""
    wanted = {"ip": "iproute2", "sysctl": "procps", "setpriv": "util-linux", "ping": "iputils-ping", "iperf3": "iperf3"}
    kinds = {kind(system)[0] for system in systems}
    if "kernel-nogso" in systems:
        wanted["ethtool"] = "ethtool"
    if kinds & {"net_tap", "tap"}:
        wanted |= dict.fromkeys(("vxswitch", "vxctl"), "cargo build --release")
    if "ovs" in kinds:
        wanted |= dict.fromkeys(("ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-appctl", OVS_SCHEMA), "openvswitch")
        wanted[OVS_VSWITCHD] = "openvswitch-switch-dpdk"
    return [f"{name} ({source})" for name, source in wanted.items()
            if not (os.path.exists(name) if "/" in name else shutil.which(name))]


def start(lab, system):
    """Starts a system with its host and its Linux VTEP."""
    lab.make_namespaces()
    name, tunnel_gso = kind(system)
    if name == "kernel":
        start_kernel(lab, tunnel_gso)
    elif name == "ovs":
        start_ovs(lab)
    else:
        start_vxswitch(lab, name, tunnel_gso)
    connect(lab)


def start_kernel(lab, tunnel_gso):
    lab.ip("switch", """link add vxb-p type veth peer name vxb-h
        link add vxb-q type veth peer name vxb-u
        link set vxb-q address 02:00:00:00:0a:01 up
        address add 192.168.1.1/24 dev vxb-q
        link add br0 type bridge
        link add vx type vxlan id 100 dstport 4789 local 192.168.1.1 remote 192.168.1.2 dev vxb-q
        link set vxb-p master br0 up
        link set vx master br0 up
        link set br0 up""")
    if not tunnel_gso:
        # What a device cannot divide itself, the kernel divides before it gets it.
        for device in ("vxb-q", "vxb-u"):
            lab.inside("switch", "ethtool", "-K", device, "tx-udp_tnl-segmentation", "off",
                       "tx-udp_tnl-csum-segmentation", "off")


def start_vxswitch(lab, name, tunnel_gso):
    program = lab.start("switch", "vxswitch", "-l", ",".join(map(str, CPUS)), *EAL.split(), "-m", "512",
                        "--file-prefix", f"vxb-{os.getpid()}", "--", "--control", f"{lab.dir}/control", nice=SWITCH_NICE)
    lab.wait_for("vxswitch is ready", lambda: re.search("^ready", program.output(), re.MULTILINE))
    if name == "tap":
        uplink, port = ["type=tap"], ["type=tap"]
    else:
        uplink = ["type=dpdk", "options:dpdk-devargs=net_tap0,iface=vxb-u"]
        port = ["type=dpdk", "options:dpdk-devargs=net_tap1,iface=vxb-h"]
    if not tunnel_gso:
        # Neither end leaves segmentation or checksums of tunnel packets to the other, as with taps before Linux 6.17.
        uplink.append("options:offloads=false")
    for words in (
            ["add-br", "br-phy", "--", "set", "bridge", "br-phy", "address=192.168.1.1/24", "hwaddr=02:00:00:00:0a:01"],
            ["add-port", "br-phy", "vxb-u", "--", "set", "interface", "vxb-u", *uplink],
            ["add-br", "br0", "--", "add-port", "br0", "vxb-h", "--", "set", "interface", "vxb-h", *port],
            ["add-port", "br0", "vx", "--", "set", "interface", "vx", "type=vxlan", "options:remote_ip=192.168.1.2",
             "options:key=100"]):
        lab.inside("switch", "vxctl", *words)


def start_ovs(lab):
    """Database server and switch of our own: a system's Open vSwitch is neither needed nor touched."""
    def vsctl(*words):
        lab.inside("switch", "ovs-vsctl", f"--timeout={PATIENCE}", *words)

    lab.inside("switch", "ovsdb-tool", "create", f"{lab.dir}/conf.db", OVS_SCHEMA)
    lab.start("switch", "ovsdb-server", f"{lab.dir}/conf.db", f"--remote=punix:{lab.dir}/db.sock",
              f"--unixctl={lab.dir}/db.ctl")
    lab.wait_for("the database's socket", lambda: os.path.exists(f"{lab.dir}/db.sock"))
    # Its mempool has 262,144 buffers of 3 KiB.
    vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
          f"other_config:dpdk-lcore-mask={1 << CPUS[0]:#x}", f"other_config:pmd-cpu-mask={1 << CPUS[-1]:#x}",
          f'other_config:dpdk-extra="{EAL} --legacy-mem -m 768"')
    lab.start("switch", OVS_VSWITCHD, f"unix:{lab.dir}/db.sock", f"--unixctl={lab.dir}/vs.ctl", "-vconsole:info",
              nice=SWITCH_NICE)
    lab.wait_for("the socket of ovs-vswitchd", lambda: os.path.exists(f"{lab.dir}/vs.ctl"))
    for bridge, number, device in (("br-phy", 0, "vxb-u"), ("br0", 1, "vxb-h")):
        vsctl("add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev", "fail_mode=standalone",
              "--", "add-port", bridge, device, "--", "set", "interface", device, "type=dpdk", "options:n_rxq=2",
              f'options:dpdk-devargs="net_tap{number},iface={device}"')
    vsctl("set", "bridge", "br-phy", 'other_config:hwaddr="02:00:00:00:0a:01"', "--", "add-port", "br0", "vx",
          "--", "set", "interface", "vx", "type=vxlan", "options:remote_ip=192.168.1.2", "options:key=100")
    lab.ip("switch", """address add 192.168.1.1/24 dev br-phy
        link set br-phy up""")
    # It hears of the address some time later.
    lab.wait_for("Open vSwitch's route to the Linux VTEP", lambda: "192.168.1.0/24" in lab.inside(
        "switch", "ovs-appctl", "-t", f"{lab.dir}/vs.ctl", "ovs/route/show"))


def connect(lab):
    """Moves the ends of the two devices to the host and the Linux VTEP, whose tunnel's MTU stays at 1450."""
    for device, name in (("vxb-h", "host"), ("vxb-u", "vtep")):
        lab.ip("switch", f"link set {device} netns {lab.namespaces[name]}")
    lab.ip("host", "link set vxb-h address 02:00:00:00:01:01 mtu 1450 up")
    lab.ip("vtep", """link set vxb-u address 02:00:00:00:0a:02 up
        address add 192.168.1.2/24 dev vxb-u
        link add vxlan100 type vxlan id 100 dstport 4789 local 192.168.1.2 remote 192.168.1.1 dev vxb-u
        link set vxlan100 mtu 1450 up""")
    for name, device, number in (("host", "vxb-h", 1), ("vtep", "vxlan100", 3)):
        lab.inside(name, "sysctl", "-q", "-w", f"net.ipv6.conf.{device}.disable_ipv6=0")
        lab.ip(name, f"""address add 10.0.0.{number}/24 dev {device}
            address add 2001:db8:1::{number}/64 dev {device} nodad""")
