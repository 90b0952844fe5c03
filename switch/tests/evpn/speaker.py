"""A BGP speaker that announces many VTEPs: a type 3 route (RFC 7432, section 7.3) for each, of one VNI.

    speaker.py LOCAL PEER AS VNI COUNT

After SIGUSR1 it withdraws every second one, after SIGUSR2 it announces all again. It prints a line when it has sent them.
"""

import ipaddress
import select
import signal
import socket
import struct
import sys
import time

L2VPN, EVPN = 25, 70
OPEN, UPDATE, KEEPALIVE = 1, 2, 4
FIRST = int(ipaddress.ip_address("10.9.0.1"))


def message(kind, body):
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def attribute(flags, kind, value):
    return struct.pack("!BBH", flags | 0x10, kind, len(value)) + value


def route(vtep):
    distinguisher = struct.pack("!HIH", 1, vtep, 1)
    return struct.pack("!BB", 3, 17) + distinguisher + struct.pack("!IBI", 0, 32, vtep)


def update(attributes):
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def announce(system, vni, vtep):
    reach = struct.pack("!HBBIB", L2VPN, EVPN, 4, vtep, 0) + route(vtep)
    target = struct.pack("!BBHI", 0, 2, system, vni)
    encapsulation = struct.pack("!BBIH", 3, 12, 0, 8)
    ingress_replication = struct.pack("!BB", 0, 6) + vni.to_bytes(3, "big") + struct.pack("!I", vtep)
    return update(attribute(0x40, 1, b"\0") + attribute(0x40, 2, b"") + attribute(0x40, 5, struct.pack("!I", 100))
                  + attribute(0x80, 14, reach) + attribute(0xc0, 16, target + encapsulation)
                  + attribute(0xc0, 22, ingress_replication))


def withdraw(vtep):
    return update(attribute(0x80, 15, struct.pack("!HB", L2VPN, EVPN) + route(vtep)))


def main():
    local, peer, system, vni, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    vteps = range(FIRST, FIRST + count)
    asked = []
    signal.signal(signal.SIGUSR1, lambda *_: asked.append(False))
    signal.signal(signal.SIGUSR2, lambda *_: asked.append(True))
    connection = socket.create_connection((peer, 179), 60, (local, 0))
    capability = struct.pack("!BBBBHBB", 2, 6, 1, 4, L2VPN, 0, EVPN)
    identifier = int(ipaddress.ip_address(local))
    connection.sendall(message(OPEN, struct.pack("!BHHIB", 4, system, 180, identifier, len(capability)) + capability))
    connection.sendall(message(KEEPALIVE, b""))
    connection.settimeout(None)
    # Its OPEN and its first KEEPALIVE; what it sends later is read and of no interest.
    for _ in range(2):
        length = struct.unpack("!H", connection.recv(19, socket.MSG_WAITALL)[16:18])[0]
        connection.recv(length - 19, socket.MSG_WAITALL)
    asked.append(True)
    due = 0
    while True:
        if asked:
            everything = asked.pop(0)
            messages = [announce(system, vni, vtep) if everything else withdraw(vtep)
                        for vtep in vteps if everything or vtep % 2]
            connection.sendall(b"".join(messages))
            print("sent", len(messages), flush=True)
        if select.select([connection], [], [], 0.05)[0] and not connection.recv(65536):
            sys.exit("the peer has ended the session")
        if time.monotonic() >= due:
            due = time.monotonic() + 10
            connection.sendall(message(KEEPALIVE, b""))


main()
