"""What was measured, as tables and as JSON."""

import json
import os
import platform

from lab import run
from systems import CPUS, OVS_VSWITCHD

RATIOS = (("tap", "kernel"), ("tap-nogso", "kernel-nogso"))


class Report:
    """Measurements of all rounds."""

    def __init__(self, systems, options, file):
        self.systems, self.options, self.file = systems, options, file
        self.machine = machine(systems)
        self.idle, self.tcp, self.problems = [], [], []

    def add_idle(self, number, system, path, trip):
        self.idle.append({"round": number, "system": system, **path._asdict(), "rtt_us": trip})

    def add_tcp(self, number, system, path, case, found):
        self.tcp.append({"round": number, "system": system, **path._asdict(), **case._asdict(), **found})

    def add_problem(self, number, where, problem):
        self.problems.append(f"round {number}, {where}: {problem}")

    def write(self):
        """Writes what was measured so far to the file that the options name, if any."""
        if not self.file:
            return
        with open(self.file, "w", encoding="utf-8") as out:
            json.dump({"machine": self.machine, **self.options, "idle": self.idle, "tcp": self.tcp,
                       "problems": self.problems}, out, indent=1)
            out.write("\n")

    def print(self):
        print(f"\nTCP through VXLAN, the best of {self.options['rounds']} rounds of {self.options['seconds']} s. "
              + ", ".join(f"{name} {value}" for name, value in self.machine.items()) + ".")
        print(f"Poll-mode workers run on CPU {CPUS[-1]}, which they share with everything else.")
        cases = best(self.tcp, ("inner", "mtu", "streams", "sender"), lambda row: -row["mbps"])
        head = ("inner", "MTU", "streams", "from")
        ratios = [pair for pair in RATIOS if set(pair) <= set(self.systems)]
        self.table("Mbit/s (segments sent again)", head, cases,
                   lambda row: f"{row['mbps']:,} ({row['retransmits']:,})", ratios)
        self.table("CPU seconds a gigabit, all processes together", head, cases,
                   lambda row: f"{row['cpu_seconds_per_gigabit']:.2f}")
        self.table("RTT while TCP sends, p50 / p99 in microseconds", head, cases, trip)
        idle = best(self.idle, ("inner", "mtu"), lambda row: row["rtt_us"]["p50"])
        self.table("RTT idle, p50 / p99 in microseconds", head[:2], idle, trip)
        for problem in self.problems:
            print(f"\nnot measured: {problem}")

    def table(self, title, head, cases, text, ratios=()):
        rows = [[*head, *self.systems, *(f"{a} / {b}" for a, b in ratios)]]
        for key, found in cases.items():
            cells = [text(found[system]) if system in found else "-" for system in self.systems]
            for a, b in ratios:
                cells.append(f"{100 * found[a]['mbps'] / found[b]['mbps']:.0f} %" if {a, b} <= set(found) else "-")
            rows.append([*map(str, key), *cells])
        rows.insert(1, ["---"] * len(rows[0]))
        widths = [max(map(len, column)) for column in zip(*rows)]
        print(f"\n{title}\n")
        for row in rows:
            print("| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths)) + " |")


def best(rows, fields, order):
    """By the values of `fields`, the first row of each system in this order."""
    found = {}
    for row in sorted(rows, key=order):
        found.setdefault(tuple(row[field] for field in fields), {}).setdefault(row["system"], row)
    return dict(sorted(found.items()))


def trip(row):
    """Round-trip times of a row; pings that were not answered stand in brackets."""
    times = row["rtt_us"]
    return f"{times['p50']:,} / {times['p99']:,}" + (f" ({times['lost']} lost)" if times["lost"] else "")


def machine(systems):
    """What the figures were measured on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    found = {"CPU": f"{len(models)} x {models[0] if models else 'unknown'}", "kernel": platform.release(),
             "load before": f"{os.getloadavg()[0]:.1f}"}
    for name, program in (("vxswitch", "vxswitch"), ("Open vSwitch", OVS_VSWITCHD)):
        if set(systems) & ({"ovs"} if program == OVS_VSWITCHD else {"net_tap", "tap", "tap-nogso"}):
            found[name] = run(program, "--version").split("\n")[0].split()[-1]
    return found
