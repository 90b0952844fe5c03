"""What is measured of a running system: iperf3's rate, the CPUs' time, round-trip times."""

import json
import os
import re
import signal
import subprocess
import time
from typing import NamedTuple

from lab import Failure
from systems import kind

# The Linux VTEP's addresses in the tunnel.
ADDRESSES = {"IPv4": "10.0.0.3", "IPv6": "2001:db8:1::3"}
PING_INTERVAL = 0.005
# iperf3 has begun to send, and still sends, while CPU and round-trip times are measured.
MARGIN = 0.2
MAX_FRAME = 1514


class Path(NamedTuple):
    """Family of the inner addresses, and MTU of the host."""
    inner: str
    mtu: int


class Case(NamedTuple):
    """TCP connections at once, and who sends: the `host`, or the other end of the `tunnel`."""
    streams: int
    sender: str


def reach(lab, path):
    """Waits for an answer through the tunnel: links and neighbours need their time."""
    lab.ip("host", f"link set vxb-h mtu {path.mtu}")
    words = ["ip", "netns", "exec", lab.namespaces["host"], "ping", "-q", "-c", "1", "-W", "1", ADDRESSES[path.inner]]
    lab.wait_for(f"a ping through the tunnel over {path.inner} is answered", lambda: subprocess.run(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0)


def round_trip(lab, path, seconds):
    """Round-trip times through the tunnel in microseconds, and how many pings were not answered."""
    with lab.running("host", "ping", "-n", "-i", str(PING_INTERVAL), ADDRESSES[path.inner]) as program:
        time.sleep(seconds)
        text = program.stop(signal.SIGINT)
    answers = {int(number): float(value) for number, value in re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms", text)}
    if not answers:
        raise Failure(f"ping through the tunnel over {path.inner}: no answer: {text.strip()}")
    times = sorted(round(value * 1000) for value in answers.values())
    # Those behind the last answer may still be on their way.
    lost = max(answers) - len(answers)

    def percentile(percent):
        return times[min(len(times) * percent // 100, len(times) - 1)]
    return {"p50": percentile(50), "p99": percentile(99), "pings": len(times), "lost": lost}


def tcp(lab, system, path, case, seconds):
    """iperf3 sends, and beside it the CPUs' time and round-trip times are measured."""
    out = case.sender == "host"
    with lab.running("vtep", "iperf3", "-s", "-1", "--forceflush") as server:
        lab.wait_for("iperf3 listens", lambda: "listening" in server.output())
        before = lab.counters("vtep", "vxb-u")["rx" if out else "tx"]
        words = ["iperf3", "-J", "-c", ADDRESSES[path.inner], "-t", str(seconds), "-P", str(case.streams)]
        with lab.running("host", *words, *([] if out else ["-R"])) as client:
            time.sleep(MARGIN)
            start, busy = time.monotonic(), busy_seconds()
            trip = round_trip(lab, path, seconds - 2 * MARGIN)
            cpus = (busy_seconds() - busy) / (time.monotonic() - start)
            lab.wait_for("iperf3 ends", client.ended)
            rate, retransmits = result(client)
        after = lab.counters("vtep", "vxb-u")["rx" if out else "tx"]
    lab.check()
    size = round((after["bytes"] - before["bytes"]) / max(after["packets"] - before["packets"], 1))
    if not kind(system)[1] and size > MAX_FRAME:
        raise Failure(f"expected single tunnel packets without tunnel GSO, found {size} bytes a packet")
    return {"mbps": round(rate / 1e6), "cpu_seconds_per_gigabit": round(cpus / rate * 1e9, 3),
            "retransmits": retransmits, "rtt_us": trip, "underlay_bytes_per_packet": size}


def result(client):
    """Received bits a second, and segments that were sent again."""
    try:
        report = json.loads(client.output())
        rate = report["end"]["sum_received"]["bits_per_second"]
        retransmits = report["end"]["sum_sent"]["retransmits"]
    except (ValueError, KeyError):
        raise Failure(f"iperf3 failed: {client.output()[-500:].strip()}") from None
    if not rate:
        raise Failure("iperf3 received nothing")
    return rate, retransmits


def busy_seconds():
    """How long all CPUs together have been busy since the machine started."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
