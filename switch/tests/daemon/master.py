"""A vhost-user master and virtio driver, for tests: one pair of queues in a memory of a megabyte."""

import array
import mmap
import os
import socket
import struct
import time

SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE = 2, 3, 4, 5
SET_LOG_BASE = 6
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, GET_QUEUE_NUM, SET_VRING_ENABLE = 12, 13, 17, 18
GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES = 1, 15, 16
REQUESTS = range(0, 41)

MEGA = 1 << 20
GUEST = 0x4000_0000  # the guest's physical address of its memory
USER = 0x7000_0000_0000  # the master's address of it
QUEUE = 256
# Offsets in the memory: rings, then packets.
DESC, AVAIL, USED, RING = 0, 0x2000, 0x3000, 0x5000
DATA = 0x20000
NEXT, WRITE, INDIRECT = 1, 2, 4
FRAME = bytes.fromhex("ffffffffffff0200000000aa88b5") + bytes(50)
GONE = (ConnectionError, socket.timeout, BlockingIOError)


class Master:
    """A connection. `features` are masked with what is offered."""

    def __init__(self, path, features=~0, setup=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.file = os.memfd_create("guest")
        os.ftruncate(self.file, MEGA)
        self.memory = mmap.mmap(self.file, MEGA)
        self.descriptors = []
        self.available = [0, 0]
        if setup:
            self.set_up(features)

    def close(self):
        self.socket.close()
        self.memory.close()
        for fd in [self.file, *self.descriptors]:
            os.close(fd)

    def eventfd(self):
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.descriptors.append(fd)
        return fd

    def send(self, request, payload=b"", fds=(), flags=1):
        head = struct.pack("<III", request, flags, len(payload))
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([head + payload], ancillary)

    def ask(self, request, payload=b""):
        self.send(request, payload)
        head = self.socket.recv(12, socket.MSG_WAITALL)
        if len(head) < 12:
            raise ConnectionResetError
        return self.socket.recv(struct.unpack("<III", head)[2], socket.MSG_WAITALL)

    def region(self):
        return struct.pack("<IIQQQQ", 1, 0, GUEST, MEGA, USER, 0)

    def ring(self, ring):
        at = USER + ring * RING
        return struct.pack("<IIQQQQ", ring, 0, at + DESC, at + USED, at + AVAIL, 0)

    def set_up(self, features):
        (offered,) = struct.unpack("<Q", self.ask(GET_FEATURES))
        self.send(SET_OWNER)
        (protocol,) = struct.unpack("<Q", self.ask(GET_PROTOCOL_FEATURES))
        # Without the device's status, of which nothing is said here.
        self.send(SET_PROTOCOL_FEATURES, struct.pack("<Q", protocol & ~(1 << 16)))
        self.features = offered & features & ~(1 << 29)
        self.send(SET_FEATURES, struct.pack("<Q", self.features | 1 << 30))
        self.header = 12 if self.features & (1 << 15 | 1 << 32) else 10
        self.send(SET_MEM_TABLE, self.region(), [self.file])
        for ring in range(2):
            self.start(ring)
        # An answer means that everything before it was handled.
        self.ask(GET_QUEUE_NUM)

    def start(self, ring):
        self.send(SET_VRING_NUM, struct.pack("<II", ring, QUEUE))
        self.send(SET_VRING_BASE, struct.pack("<II", ring, self.available[ring]))
        self.send(SET_VRING_ADDR, self.ring(ring))
        self.send(SET_VRING_CALL, struct.pack("<Q", ring), [self.eventfd()])
        self.send(SET_VRING_KICK, struct.pack("<Q", ring), [self.eventfd()])
        self.send(SET_VRING_ENABLE, struct.pack("<II", ring, 1))

    def write(self, at, data):
        self.memory[at : at + len(data)] = data

    def descriptor(self, ring, number, address, size, flags=0, following=0):
        self.write(ring * RING + DESC + 16 * number, struct.pack("<QIHH", address, size, flags, following))

    def offer(self, ring, head):
        index = self.available[ring]
        self.write(ring * RING + AVAIL + 4 + 2 * (index % QUEUE), struct.pack("<H", head))
        self.available[ring] = (index + 1) & 0xFFFF
        self.write(ring * RING + AVAIL + 2, struct.pack("<H", self.available[ring]))

    def used(self, ring):
        at = ring * RING + USED + 2
        return struct.unpack("<H", self.memory[at : at + 2])[0]

    def transmit(self, data, slot=0):
        """Sends header and frame, in one descriptor."""
        at = DATA + 0x11000 * slot
        self.write(at, data)
        self.descriptor(1, slot, GUEST + at, len(data))
        self.offer(1, slot)

    def is_used(self, ring=1, within=5):
        end = time.monotonic() + within
        while self.used(ring) != self.available[ring]:
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        return True

    def behaves(self):
        """Sends a frame as a good guest does; whether it was taken."""
        self.transmit(bytes(self.header) + FRAME)
        return self.is_used()

    def receive(self, count=64, size=2048):
        """Gives the switch buffers."""
        for slot in range(count):
            self.descriptor(0, slot, GUEST + DATA + 0x1000 * slot, size, WRITE)
            self.offer(0, slot)


def eventually(what, do):
    """Tries until a connection is served: an earlier one may not have ended yet."""
    end = time.monotonic() + 15
    while True:
        try:
            result = do()
            if result:
                return result
        except GONE:
            pass
        if time.monotonic() > end:
            raise SystemExit(what)
        time.sleep(0.02)


def connected(path, features=~0):
    def connect():
        master = Master(path, features)
        if master.behaves():
            return master
        master.close()
        return None

    return eventually(f"nobody serves {path}", connect)
