"""A virtual machine: QEMU without KVM boots Debian's cloud kernel, which scripts/setup fetches, with an initramfs of busybox and
iperf3. Commands go in, and their output comes back, by its serial port."""

import glob
import json
import os
import queue
import shutil
import subprocess
import threading
import time

from lab import PATIENCE, Failure, run

# Modules that it loads, with what they need.
MODULES = ("virtio_pci", "virtio_net")
# Printed when it waits for a command; and after one, with its status.
READY, ENDED = "@@ready", "@@ended "
BOOT = 60


def missing(folder):
    """Programs and files that are not there, each with where it comes from."""
    wanted = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "cpio": "cpio", "modprobe": "kmod",
              f"{folder}/installed": "scripts/setup"}
    return [f"{name} ({source})" for name, source in wanted.items()
            if not (os.path.exists(name) if "/" in name else shutil.which(name))]


def initramfs(folder, scratch):
    """Makes it; its path."""
    root = f"{scratch}/root"
    for name in ("bin", "m", "proc", "sys", "dev", "tmp", "usr/bin"):
        os.makedirs(f"{root}/{name}")

    def copy(source, target):
        os.makedirs(os.path.dirname(f"{root}/{target}"), exist_ok=True)
        shutil.copy(source, f"{root}/{target}")

    copy(shutil.which("busybox"), "bin/busybox")
    os.symlink("busybox", f"{root}/bin/sh")
    iperf3 = shutil.which("iperf3")
    copy(iperf3, "usr/bin/iperf3")
    for word in run("ldd", iperf3).split():
        if word.startswith("/"):
            copy(word, word.lstrip("/"))
    version = os.path.basename(glob.glob(f"{folder}/lib/modules/*")[0])
    modules = []
    for module in MODULES:
        for line in run("modprobe", "-d", folder, "-S", version, "--show-depends", module).splitlines():
            path = line.removeprefix("insmod ").strip()
            if path not in modules:
                modules.append(path)
                copy(path, f"m/{os.path.basename(path)}")
    insert = "\n".join(f"insmod /m/{os.path.basename(path)}" for path in modules)
    with open(f"{root}/init", "w", encoding="ascii") as init:
        init.write(f"""#!/bin/sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/bin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
{insert}
stty raw -echo
ip link set lo up
echo {READY}
while read -r line; do eval "$line"; echo "{ENDED}$?"; done
poweroff -f
""")
    os.chmod(f"{root}/init", 0o755)
    run("sh", "-c", f"cd {root} && find . | cpio --quiet -o -H newc > {scratch}/initramfs")
    return f"{scratch}/initramfs"


class Guest:
    """A running guest with one network device, eth0. It is killed when this process ends, whatever ends it."""

    def __init__(self, folder, image, netns, netdev):
        kernel = glob.glob(f"{folder}/boot/vmlinuz*")[0]
        # With interrupts by message and without KVM, QEMU 7.2 ends in msix_set_vector_notifiers.
        words = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", netns, "qemu-system-x86_64", "-accel", "tcg",
                 "-m", "256", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", image,
                 "-append", "console=ttyS0 quiet panic=-1",
                 "-object", "memory-backend-memfd,id=m,size=256M,share=on", "-numa", "node,memdev=m", *netdev,
                 "-device", "virtio-net-pci,netdev=n0,mac=02:00:00:00:02:01,vectors=0"]
        self.child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.child.stdout:
            self.lines.put(line.decode(errors="replace").rstrip("\r\n"))
        self.lines.put(None)

    def until(self, end, patience=PATIENCE):
        """What it prints until a line with this, and the rest of that line."""
        text, deadline = [], time.monotonic() + patience
        while True:
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise Failure(f"no {end!r} of the guest within {patience} s; it wrote: {' '.join(text)[-500:]}") from None
            if line is None:
                raise Failure(f"the guest ended; it wrote: {' '.join(text)[-500:]}")
            if end in line:
                before, rest = line.split(end, 1)
                return "\n".join([*text, before]), rest
            text.append(line)

    def wait(self):
        """Until it has booted. By vhost-user that is when the switch is there, too: QEMU asks it for features first."""
        self.until(READY, BOOT)

    def sh(self, line):
        """What a command of its shell prints that must succeed."""
        self.child.stdin.write(f"{line}\n".encode())
        self.child.stdin.flush()
        text, status = self.until(ENDED)
        if status != "0":
            raise Failure(f"the guest's {line}: exit status {status}: {text}")
        return text

    def tcp(self, to, seconds, options):
        """Received bits a second of iperf3, and segments that were sent again."""
        end = json.loads(self.sh(f"iperf3 -J -c {to} -t {seconds} {options}"))["end"]
        return end["sum_received"]["bits_per_second"], end["sum_sent"]["retransmits"]

    def stop(self):
        self.child.kill()
        self.child.wait()
