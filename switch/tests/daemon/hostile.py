"""A vhost-user master and virtio driver that lies: it speaks to a socket of type dpdkvhostuser.

hostile.py HOSTILE GOOD SEED ROUNDS SWITCH: tries all that it knows on the socket HOSTILE, and after each sees that a guest on the
socket GOOD is served as before, and that one on HOSTILE is, that behaves. Ends with 0 when that is so.
"""

import os
import random
import socket
import struct
import sys
import time

from master import (
    AVAIL,
    DATA,
    FRAME,
    GET_FEATURES,
    GET_QUEUE_NUM,
    GET_VRING_BASE,
    GONE,
    GUEST,
    INDIRECT,
    MEGA,
    Master,
    NEXT,
    QUEUE,
    REQUESTS,
    RESET_OWNER,
    RING,
    SET_FEATURES,
    SET_LOG_BASE,
    SET_MEM_TABLE,
    SET_VRING_ADDR,
    SET_VRING_CALL,
    SET_VRING_ENABLE,
    SET_VRING_NUM,
    USER,
    WRITE,
    connected,
)


def headers(rng):
    """Virtio headers that no driver should write, and some that it may."""
    edges = [0, 1, 2, 13, 14, 34, 53, 63, 64, 65, 0x7FFF, 0xFFFE, 0xFFFF]
    for flags in [0, 1, 2, 3, 0xFF]:
        for gso in [0, 1, 3, 4, 5, 0x20, 0x41, 0x81, 0xFF]:
            yield struct.pack("<BBHHHHH", flags, gso, *(rng.choice(edges) for _ in range(5)))
    for _ in range(200):
        yield rng.randbytes(12)


def frames():
    ip = bytes.fromhex("45000050000040004006000a0a0000010a000002")
    tcp = bytes.fromhex("00500051000000010000000150180000") + b"\x12\x34\x00\x00"
    ethernet = FRAME[:12] + b"\x08\x00"
    return [FRAME, ethernet + ip + tcp + bytes(40), ethernet + ip + tcp + bytes(60000), ethernet, b"", b"x" * 65000]


def bad_headers(master, rng):
    packets = frames()
    for header in headers(rng):
        master.transmit(header[: master.header] + rng.choice(packets))
        assert master.is_used(), f"a packet with the header {header.hex()} stays in the ring"
    assert master.behaves(), "a good packet after bad ones is not taken"


def loop(master, ring=1, flags=0):
    master.descriptor(ring, 0, GUEST + DATA, 64, NEXT | flags, 1)
    master.descriptor(ring, 1, GUEST + DATA, 64, NEXT | flags, 0)
    master.offer(ring, 0)


def nowhere(master, ring=1, flags=0):
    for number, address in enumerate([0, GUEST - 1, GUEST + MEGA, 1 << 63, (1 << 64) - 1, GUEST + MEGA - 1]):
        master.descriptor(ring, number, address, 0xFFFFFFFF, flags)
        master.offer(ring, number)


def nothing(master, ring=1, flags=0):
    for number in range(8):
        master.descriptor(ring, number, GUEST + DATA, 0, NEXT * (number < 7) | flags, number + 1)
    master.offer(ring, 0)


def nested(master, ring=1, flags=0):
    master.descriptor(ring, 0, GUEST + DATA, 32, INDIRECT, 0)
    master.write(DATA, struct.pack("<QIHH", GUEST + DATA, 32, INDIRECT | NEXT | flags, 1) * 2)
    master.offer(ring, 0)


def beyond(master, ring=1, _flags=0):
    master.offer(ring, QUEUE)
    master.offer(ring, 0xFFFF)


def jump(master, ring=1, _flags=0):
    master.write(ring * RING + AVAIL + 2, struct.pack("<H", (master.available[ring] + 30000) & 0xFFFF))


def direction(master, ring=1, flags=0):
    master.descriptor(ring, 0, GUEST + DATA, 100, flags ^ WRITE)
    master.offer(ring, 0)


def own_rings(master, ring=1, flags=0):
    """A packet that lies in, or is written over, the ring itself."""
    for number in range(4):
        master.descriptor(ring, number, GUEST + ring * RING, RING, flags)
        master.offer(ring, number)


DESCRIPTORS = [loop, nowhere, nothing, nested, beyond, jump, direction, own_rings]


def random_rings(master, rng):
    for _ in range(20):
        words = [0, 1, GUEST, GUEST + DATA, QUEUE - 1, MEGA, rng.getrandbits(64), rng.getrandbits(16)]
        master.write(0, b"".join(struct.pack("<Q", rng.choice(words)) for _ in range(2 * RING // 8)))
        time.sleep(0.002)


def stops_in_between(master, rng):
    """Ends, moves and unmaps things while packets are on their way."""
    master.receive()
    for slot in range(8):
        master.transmit(bytes(master.header) + FRAME, slot)
    step = rng.randrange(6)
    if step == 0:
        master.send(SET_MEM_TABLE, struct.pack("<II", 0, 0))
    elif step == 1:
        master.send(RESET_OWNER)
    elif step == 2:
        # The ring is where it was, but is said to be longer than its memory.
        master.send(SET_VRING_NUM, struct.pack("<II", 1, 32768))
        jump(master)
    elif step == 3:
        master.send(SET_VRING_ADDR, struct.pack("<IIQQQQ", 1, 0, USER + MEGA - 16, USER + MEGA - 8, USER + MEGA - 2, 0))
    elif step == 4:
        master.send(GET_VRING_BASE, struct.pack("<II", 1, 0))
    # and the last one: nothing is said at all.


def refused_table(master, _rng):
    """A table that cannot be mapped, with an answer wanted: the connection stays."""
    table = struct.pack("<IIQQQQ", 1, 0, GUEST, 1 << 50, USER, 0)
    master.send(SET_MEM_TABLE, table, [master.file], flags=1 | 8)
    for _ in range(3):
        master.send(SET_VRING_ENABLE, struct.pack("<II", 1, 1), flags=1 | 8)


def table_that_is_no_file(master, _rng):
    """Memory that cannot be mapped: the connection ends."""
    reader, writer = os.pipe()
    master.descriptors += [reader, writer]
    master.send(SET_MEM_TABLE, master.region(), [reader])
    assert is_closed(master), "a pipe is memory"


def unknown_with_files(master, _rng):
    """A message that nobody sends, with files: the connection ends."""
    master.send(33, bytes(8), [master.file] * 8)
    assert is_closed(master), "an unknown message is handled"


def full_pipe(master, _rng):
    """Interrupts by a pipe that is full, and would block whoever writes to it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(65536))
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    master.send(SET_VRING_CALL, struct.pack("<Q", 1), [writer])
    master.ask(GET_QUEUE_NUM)
    master.descriptors += [reader, writer]
    assert master.behaves(), "a packet is not taken when the interrupt cannot be written"


def short_buffers(master, _rng):
    """No packet fits any of them."""
    master.receive(size=20)
    # Until the switch has seen that the link is up, and a while more.
    time.sleep(0.5)
    assert master.used(0) == 0, "a packet is cut"


# Without mergeable buffers.
short_buffers.features = ~(1 << 15)


def is_closed(master):
    """Whether the switch ends the connection."""
    master.socket.settimeout(10)
    try:
        while master.socket.recv(4096):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        return False
    return True


def shrink(master, size):
    """Makes the file of the memory shorter while the switch has it mapped. From here on it must not be touched by us either."""
    os.ftruncate(master.file, size)


def receives(master):
    """Has the switch send to it."""
    master.receive()
    assert master.is_used(0), "nothing is sent to a guest with room for it"
    master.receive()


def gone(master, _rng):
    """No memory any more while packets go both ways."""
    receives(master)
    for slot in range(8):
        master.transmit(bytes(master.header) + FRAME, slot)
    shrink(master, 0)
    assert is_closed(master), "a guest without memory is served on"


def packets_gone(master, _rng):
    """The rings are left, what their descriptors say is not."""
    receives(master)
    shrink(master, DATA)
    for number in range(8):
        master.descriptor(1, number, GUEST + DATA, 64)
        master.offer(1, number)
    assert is_closed(master), "a guest without buffers is served on"


def messages_without_memory(master, _rng):
    """librte_vhost reads the rings, too."""
    master.send(GET_VRING_BASE, struct.pack("<II", 0, 0))
    master.send(GET_VRING_BASE, struct.pack("<II", 1, 0))
    shrink(master, 0)
    try:
        for ring in range(2):
            master.start(ring)
        master.ask(GET_QUEUE_NUM)
    except GONE:
        pass
    assert is_closed(master), "a guest whose rings are nowhere is served on"


def new_memory_without_bytes(master, _rng):
    """A file that is shorter than it is said to be from the start, where the rings are sought as soon as it is mapped."""
    empty = os.memfd_create("empty")
    master.descriptors.append(empty)
    table = struct.pack("<IIQQQQ", 1, 0, GUEST + MEGA, MEGA, USER, 0)
    master.send(SET_MEM_TABLE, table, [empty])
    assert is_closed(master), "a guest with an empty file is served on"


def log_without_bytes(master, _rng):
    """The log of dirty memory is a file of the master's as well."""
    log = os.memfd_create("log")
    master.descriptors.append(log)
    master.send(SET_LOG_BASE, struct.pack("<QQ", 1 << 20, 0), [log])
    master.socket.recv(12, socket.MSG_WAITALL)
    master.send(SET_FEATURES, struct.pack("<Q", master.features | 1 << 30 | 1 << 26))
    master.receive()
    master.transmit(bytes(master.header) + FRAME)
    assert is_closed(master), "a guest with an empty log is served on"


def log_that_stays(master, _rng):
    """A log that cannot be mapped leaves the one before, which then gets shorter."""
    log = os.memfd_create("log")
    master.descriptors.append(log)
    os.ftruncate(log, 1 << 20)
    master.send(SET_LOG_BASE, struct.pack("<QQ", 1 << 20, 0), [log])
    master.socket.recv(12, socket.MSG_WAITALL)
    master.send(SET_LOG_BASE, struct.pack("<QQ", 1 << 20, 0), [master.eventfd()], flags=1 | 8)
    master.socket.recv(20, socket.MSG_WAITALL)
    master.send(SET_FEATURES, struct.pack("<Q", master.features | 1 << 30 | 1 << 26))
    assert master.behaves(), "a guest whose memory is logged is not served"
    os.ftruncate(log, 0)
    master.transmit(bytes(master.header) + FRAME)
    assert is_closed(master), "a guest without a log is served on"


def log_beyond_its_end(master, _rng):
    """librte_vhost adds the offset in the file to where it has mapped it."""
    log = os.memfd_create("log")
    master.descriptors.append(log)
    os.ftruncate(log, 1 << 34)
    master.send(SET_LOG_BASE, struct.pack("<QQ", 1 << 20, 1 << 33), [log])
    assert is_closed(master), "a log that begins in the middle of its file is written"


def random_messages(path, rng):
    for _ in range(10):
        master = connected(path) if rng.random() < 0.5 else Master(path, setup=False)
        try:
            for _ in range(rng.randrange(1, 30)):
                payload = rng.randbytes(rng.choice([0, 4, 8, 8, 8, 16, 40, 200, 400]))
                if rng.random() < 0.5 and len(payload) >= 4:
                    payload = struct.pack("<I", rng.choice([0, 1, 2, 3, 127, 128, 255, 256, 0xFFFFFFFF])) + payload[4:]
                fds = [master.file] * rng.choice([0, 0, 1, 1, 2, 8])
                master.send(rng.choice(REQUESTS), payload, fds, rng.choice([1, 1, 9, 5, 0, 0xFFFFFFFF]))
        except GONE:
            pass
        master.close()


def half_messages(path, _rng):
    """Begins messages and does not end them; the connections stay open."""
    masters = []
    for part in [struct.pack("<III", SET_MEM_TABLE, 1, 40), struct.pack("<III", SET_FEATURES, 1, 8) + b"123", b"\x01"]:
        master = Master(path, setup=False)
        master.socket.sendall(part)
        masters.append(master)
    return masters


def no_reader(path, _rng):
    """Asks and asks, and takes no answer."""
    master = Master(path, setup=False)
    try:
        master.socket.settimeout(0.2)
        for _ in range(3000):
            master.send(GET_FEATURES)
    except GONE:
        pass
    return [master]


def main():
    hostile, good_path = sys.argv[1:3]
    seed, rounds, switch = map(int, sys.argv[3:6])
    rng = random.Random(seed)
    good = connected(good_path)

    def check(what):
        if not good.behaves():
            sys.exit(f"hostile.py: seed {seed}: after {what} another guest is not served")

    connected(hostile).close()
    before = len(os.listdir(f"/proc/{switch}/fd"))
    cases = []
    for lie in DESCRIPTORS:
        cases.append((f"{lie.__name__} where it sends", lambda m, _r, lie=lie: lie(m)))
        cases.append((f"{lie.__name__} where it receives", lambda m, _r, lie=lie: lie(m, 0, WRITE)))
    lies = [bad_headers, random_rings, stops_in_between, refused_table, table_that_is_no_file, unknown_with_files, full_pipe, short_buffers, gone, packets_gone, messages_without_memory]
    lies += [new_memory_without_bytes, log_without_bytes, log_that_stays, log_beyond_its_end]
    cases += [(case.__name__, case) for case in lies]
    for turn in range(rounds):
        for what, case in cases:
            # With and without mergeable buffers, and without offloads.
            features = rng.choice([~0, ~(1 << 15), ~0x7FFF, ~(1 << 32)])
            master = connected(hostile, getattr(case, "features", features))
            try:
                case(master, rng)
                check(what)
            except GONE:
                pass
            master.close()
            print(f"{turn} {what}", flush=True)
        for case in [random_messages, half_messages, no_reader]:
            left = case(hostile, rng) or []
            # A new guest elsewhere is not held up either.
            check(case.__name__)
            good.close()
            good = connected(good_path)
            for master in left:
                master.close()
            print(f"{turn} {case.__name__}", flush=True)
    def open_files():
        return len(os.listdir(f"/proc/{switch}/fd"))

    # No connection has left a file behind: as many are open as with the first.
    connected(hostile).close()
    deadline = time.monotonic() + 10
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    if open_files() > before:
        sys.exit(f"hostile.py: seed {seed}: {before} files were open, now {open_files()}")
    print("done", flush=True)


main()
