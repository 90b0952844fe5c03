#!/usr/bin/python3
"""TCP from a host through a VXLAN tunnel to a Linux VTEP and back, through the kernel's own bridge and vxlan, Open vSwitch
with DPDK, and vxswitch, in turn, each started afresh in every round. docs/performance.md says what the figures mean.

    scripts/bench --tcp             IPv4 and IPv6, one connection, MTU of the host 1450: some four minutes
    scripts/bench --tcp --full      also eight connections and MTU 1500: 25 minutes

Needs root, for network namespaces. vxswitch and vxctl are those of PATH."""

import argparse
import os
import signal
import sys

from lab import SIGNALS, Failure, Lab
from measure import Case, Path, reach, round_trip, tcp
from report import Report
from systems import SYSTEMS, missing, start


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench --tcp", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one connection and MTU 1450 alone: the default")
    size.add_argument("--full", action="store_true", help="also eight connections and MTU 1500")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="how often each has its turn (3)")
    parser.add_argument("--seconds", type=positive, metavar="N", help="how long TCP sends (2, with --full 4)")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS, metavar="SYSTEM",
                        help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--json", metavar="FILE", help="write all rounds there, too")
    options = parser.parse_args()
    options.seconds = options.seconds or (4 if options.full else 2)
    return options


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text}")
    return int(text)


def turn(number, system, paths, cases, seconds, report):
    """Starts a system, measures all cases, and ends it. What fails is noted, and the others go on."""
    where = system
    try:
        with Lab() as lab:
            start(lab, system)
            for path in paths:
                where = f"{system}, {path.inner}, MTU {path.mtu}"
                reach(lab, path)
                report.add_idle(number, system, path, round_trip(lab, path, 1))
                for case in cases:
                    where = f"{system}, {path.inner}, MTU {path.mtu}, {case.streams} from {case.sender}"
                    try:
                        report.add_tcp(number, system, path, case, tcp(lab, system, path, case, seconds))
                    except Failure as failure:
                        report.add_problem(number, where, failure)
                        if any(program.ended() for program in lab.programs):
                            return
    except Failure as failure:
        report.add_problem(number, where, failure)


def main():
    options = arguments()
    if os.geteuid():
        raise Failure("expected to run as root: it makes network namespaces")
    systems = [system for system in SYSTEMS if system in options.only]
    if absent := missing(systems):
        raise Failure(f"not found: {', '.join(absent)}")
    paths = [Path(inner, mtu) for mtu in ((1450, 1500) if options.full else (1450,)) for inner in ("IPv4", "IPv6")]
    cases = [Case(streams, sender) for streams in ((1, 8) if options.full else (1,)) for sender in ("host", "tunnel")]
    report = Report(systems, {"rounds": options.rounds, "seconds": options.seconds}, options.json)
    report.write()
    for number in range(1, options.rounds + 1):
        for system in systems:
            print(f"round {number} of {options.rounds}: {system}", file=sys.stderr)
            turn(number, system, paths, cases, options.seconds, report)
            report.write()
    report.print()
    return 1 if report.problems else 0


def interrupted(number, _frame):
    sys.exit(128 + number)


for each in SIGNALS:
    signal.signal(each, interrupted)
try:
    sys.exit(main())
except (Failure, OSError) as error:
    sys.exit(f"scripts/bench --tcp: {error}")
