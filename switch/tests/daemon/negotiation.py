"""What a guest is given is what it has negotiated: negotiation.py SENDER RECEIVER.

A guest on the socket SENDER sends segments of TCP whose checksum is to be completed, small ones and one of 20000 bytes. One on
the socket RECEIVER comes again and again with other features. Ends with 0 when it is given nothing that it did not take, and
each byte of the payload.
"""

import os
import struct
import sys
import time

from master import DATA, GUEST, QUEUE, USED, WRITE, connected

CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, MERGEABLE = 1, 1 << 1, 1 << 7, 1 << 8, 1 << 15
SEGMENT, LARGE = 1000, 20000


def sum16(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2])) + (data[-1] << 8 if len(data) % 2 else 0)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packet(payload, large):
    """Header and frame, as Linux leaves them to the device."""
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 7, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + struct.pack(">H", ~sum16(ip) & 0xFFFF) + ip[12:]
    pseudo = sum16(addresses + struct.pack(">HH", 6, 20 + len(payload)))
    tcp = struct.pack(">HHIIBBHHH", 1, 2, 100, 200, 0x50, 0x18, 500, pseudo, 0)
    header = struct.pack("<BBHHHHH", 1, 1 if large else 0, 54, SEGMENT if large else 0, 34, 16, 0)
    return header + bytes.fromhex("0200000000020200000000010800") + ip + tcp + payload


def is_complete(frame):
    """Whether the checksum of TCP is right."""
    size = struct.unpack(">H", frame[16:18])[0]
    segment = frame[34 : 14 + size]
    return sum16(frame[26:34] + struct.pack(">HH", 6, len(segment)) + segment) == 0xFFFF


def frames(receiver, chains):
    """What was written to the next chains, header and frame each; those that are merged in one."""
    found, number = [], 0
    while number < chains:
        data, count = b"", 1
        while count > 0:
            at = USED + 4 + 8 * (receiver.taken % QUEUE)
            slot, size = struct.unpack("<II", receiver.memory[at : at + 8])
            data += receiver.memory[DATA + 0x800 * slot : DATA + 0x800 * slot + size]
            if len(data) == size and receiver.header == 12:
                count = struct.unpack("<H", data[10:12])[0]
            receiver.taken, number, count = receiver.taken + 1, number + 1, count - 1
        found.append((data[: receiver.header], data[receiver.header :]))
    return found


def reach(sender, receiver):
    """Sends until something arrives: the switch looks at links now and then."""
    for _ in range(100):
        sender.transmit(packet(b"probe", False))
        for _ in range(20):
            if receiver.used(0) > 0:
                return
            time.sleep(0.01)
    raise SystemExit("nothing arrives")


def main():
    sender = connected(sys.argv[1])
    assert sender.header == 12, "the sender has what it needs"
    for features in [
        ~0,
        ~(GUEST_TSO4 | GUEST_TSO6),
        ~GUEST_TSO6,
        ~(GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6),
        ~(GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | MERGEABLE | 1 << 32),
        ~0,
    ]:
        receiver = connected(sys.argv[2], features)
        for slot in range(64):
            receiver.descriptor(0, slot, GUEST + DATA + 0x800 * slot, 0x800, WRITE)
            receiver.offer(0, slot)
        reach(sender, receiver)
        receiver.taken = receiver.used(0)
        takes_tso = features & GUEST_TSO4 and features & GUEST_TSO6
        for large in [False, True]:
            payload = os.urandom(LARGE if large else 333)
            expected = 1 if takes_tso or not large else LARGE // SEGMENT
            before = receiver.used(0)
            sender.transmit(packet(payload, large))
            assert sender.is_used(), "the sender's packet stays"
            found, least = [], before
            for _ in range(5000):
                used = receiver.used(0)
                found += frames(receiver, (used - least) & 0xFFFF)
                least = used
                if len(found) >= expected:
                    break
                receiver.is_used(0, 0.001)
            what = f"features {features & 0xFFFFFFFF:#x}, large {large}"
            assert len(found) == expected, f"{what}: {len(found)} frames"
            for header, frame in found:
                flags, gso, _, size, start, offset = struct.unpack("<BBHHHH", header[:10])
                # What was divided is complete.
                if features & GUEST_CSUM and (takes_tso or not large):
                    assert (flags, start, offset) == (1, 34, 16), f"{what}: {header.hex()}"
                else:
                    assert flags == 0 and is_complete(frame), f"{what}: {header.hex()} {frame.hex()}"
                assert (gso, size) == ((1, SEGMENT) if large and takes_tso else (0, 0)), f"{what}: {header.hex()}"
            assert b"".join(frame[54:] for _, frame in found) == payload, f"{what}: another payload"
        receiver.close()
        print(what, flush=True)
    print("done", flush=True)


main()
