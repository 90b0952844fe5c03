#!/usr/bin/python3
"""TCP between a virtual machine (QEMU without KVM) and a host, through vxswitch by vhost-user and tap, and through QEMU's own tap,
in turn, each started afresh in every round. The machine's CPU is an emulated one, and shares this machine's with all others.

    scripts/bench --vm

Needs root, for network namespaces, and the guest's kernel of scripts/setup. vxswitch and vxctl are those of PATH."""

import argparse
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tcp"))

from guest import Guest, initramfs, missing
from lab import Failure, Lab
from systems import CPUS, EAL

SYSTEMS = ("vxswitch", "qemu-tap")
FOLDER = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "guest")
HOST, GUEST = "10.0.0.1", "10.0.0.9"


def switch(lab):
    """A bridge with the device of a host and the machine's socket."""
    program = lab.start("switch", "vxswitch", "-l", ",".join(map(str, CPUS)), *EAL.split(), "-m", "512",
                        "--file-prefix", f"vxb-{os.getpid()}", "--", "--control", f"{lab.dir}/control")
    lab.wait_for("vxswitch is ready", lambda: re.search("^ready", program.output(), re.MULTILINE))
    for words in (["add-br", "br0"],
                  ["add-port", "br0", "vxb-h", "--", "set", "interface", "vxb-h", "type=tap"],
                  ["add-port", "br0", "vm", "--", "set", "interface", "vm", "type=dpdkvhostuserclient",
                   f"options:vhost-server-path={lab.dir}/vm.sock"]):
        lab.inside("switch", "vxctl", *words)


def turn(system, seconds):
    """Mbit/s out of the machine and into it, each with the segments that were sent again, and what the switch dropped."""
    with Lab() as lab:
        lab.make_namespaces()
        image = initramfs(FOLDER, lab.dir)
        if system == "vxswitch":
            guest = Guest(FOLDER, image, lab.namespaces["switch"], [
                "-chardev", f"socket,id=c0,path={lab.dir}/vm.sock,server=on,wait=off", "-netdev", "vhost-user,id=n0,chardev=c0"])
            switch(lab)
        else:
            guest = Guest(FOLDER, image, lab.namespaces["switch"], [
                "-netdev", "tap,id=n0,ifname=vxb-h,script=no,downscript=no"])
        try:
            guest.wait()
            lab.ip("switch", f"link set vxb-h netns {lab.namespaces['host']}")
            lab.ip("host", f"""link set vxb-h address 02:00:00:00:01:01 mtu 1500 up
                address add {HOST}/24 dev vxb-h""")
            guest.sh(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
            guest.sh(f"ping -q -c 1 -W 10 {HOST}")
            found = []
            for options in ("", "-R"):
                with lab.running("host", "iperf3", "-s", "-1", "--forceflush") as server:
                    lab.wait_for("iperf3 listens", lambda server=server: "listening" in server.output())
                    found.append(guest.tcp(HOST, seconds, options))
            full = lab.inside("switch", "vxctl", "get", "interface", "vm", "statistics:tx_dropped") if system == "vxswitch" else "-"
            return found, full.strip()
        finally:
            guest.stop()


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench --vm", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each has its turn (3)")
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="how long TCP sends (5)")
    options = parser.parse_args()
    if os.geteuid():
        raise Failure("expected to run as root: it makes network namespaces")
    if absent := missing(FOLDER):
        raise Failure(f"not found: {', '.join(absent)}")
    best = {}
    for number in range(options.rounds):
        for system in SYSTEMS:
            found, full = turn(system, options.seconds)
            print(f"round {number + 1}, {system}: " + ", ".join(
                f"{way} {rate / 1e6:,.0f} Mbit/s ({again} sent again)" for way, (rate, again) in zip(("out", "in"), found))
                + f", dropped at the machine's ring: {full}", flush=True)
            before = best.get(system, [0, 0])
            best[system] = [max(old, rate) for old, (rate, _) in zip(before, found)]
    for system, rates in best.items():
        print(f"best of {options.rounds}, {system}: out {rates[0] / 1e6:,.0f} Mbit/s, in {rates[1] / 1e6:,.0f} Mbit/s")


try:
    main()
except (Failure, OSError) as error:
    sys.exit(f"scripts/bench --vm: {error}")
