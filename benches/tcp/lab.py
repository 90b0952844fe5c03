"""Network namespaces of a host, a switch and a Linux VTEP, and the programs that run in them."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

PATIENCE = 30
# What ovs-ctl and config/vxswitch.service start the switch with.
SWITCH_NICE = -10
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failure(Exception):
    """What went wrong, for the user."""


class Program:
    """A running program, whose output is in a file. It is killed when this process ends, whatever ends it."""

    def __init__(self, words, netns, env, log, nice=0):
        self.name, self.log = os.path.basename(words[0]), log
        words = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", str(nice), "ip", "netns", "exec", netns, *words]
        with open(log, "wb") as out:
            self.child = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def ended(self):
        return self.child.poll() is not None

    def check(self):
        """Fails when it has ended."""
        if self.ended():
            last = "\n  ".join(self.output().splitlines()[-8:])
            raise Failure(f"{self.name} ended with status {self.child.returncode}; it wrote last:\n  {last}")

    def stop(self, number=signal.SIGTERM):
        """Ends it, and returns what it has written."""
        self.child.send_signal(number)
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        return self.output()


class Lab:
    """The namespaces `host`, `switch` and `vtep`, a directory, and what was started there. All of it goes at the end of the
    `with` statement."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="vxswitch-tcp.")
        self.namespaces = {name: f"vxb-{os.getpid()}-{name}" for name in ("host", "switch", "vtep")}
        self.programs = []
        self.logs = (f"{self.dir}/{number}.log" for number in itertools.count())
        self.env = dict(os.environ, OVS_RUNDIR=self.dir, OVS_DBDIR=self.dir, OVS_LOGDIR=self.dir,
                        VXSWITCH_CONTROL=f"{self.dir}/control")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with blocked_signals():
            for program in reversed(self.programs):
                program.stop()
            for netns in self.namespaces.values():
                subprocess.run(["ip", "netns", "del", netns], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(self.dir)

    def make_namespaces(self):
        """Without the addresses that IPv6 makes by itself: nobody sends unasked."""
        for name, netns in self.namespaces.items():
            run("ip", "netns", "add", netns)
            self.inside(name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1",
                        "net.ipv6.conf.default.disable_ipv6=1")
            self.ip(name, "link set lo up")

    def inside(self, name, *words):
        """What a command prints that must succeed."""
        return run("ip", "netns", "exec", self.namespaces[name], *words, env=self.env)

    def ip(self, name, commands):
        """Runs `ip` for each line."""
        run("ip", "-n", self.namespaces[name], "-batch", "-", text=commands)

    def start(self, name, *words, nice=0):
        """Starts a program that runs until the end, and must not end before."""
        self.programs.append(Program(words, self.namespaces[name], self.env, next(self.logs), nice))
        return self.programs[-1]

    @contextlib.contextmanager
    def running(self, name, *words):
        """A program that runs until the end of the `with` statement."""
        program = Program(words, self.namespaces[name], self.env, next(self.logs))
        try:
            yield program
        finally:
            program.stop()

    def check(self):
        """Fails when a program has ended that must not."""
        for program in self.programs:
            program.check()

    def wait_for(self, what, ready):
        deadline = time.monotonic() + PATIENCE
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"not within {PATIENCE} s: {what}")
            time.sleep(0.05)

    def counters(self, name, device):
        """Statistics of a device, as `ip -s link` has them."""
        found = json.loads(run("ip", "-n", self.namespaces[name], "-s", "-j", "link", "show", "dev", device))
        return found[0]["stats64"]


def run(*words, env=None, text=""):
    """What a command prints that must succeed."""
    try:
        done = subprocess.run(words, env=env, input=text, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"not within {2 * PATIENCE} s: {' '.join(words)}") from None
    if done.returncode:
        raise Failure(f"{' '.join(words)}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextlib.contextmanager
def blocked_signals():
    """Signals wait until the end of the `with` statement: clearing up is not interrupted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
