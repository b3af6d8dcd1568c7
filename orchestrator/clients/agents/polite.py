"""Has a server say `Connection: close` in every response, so that clients take their next request elsewhere.

A keep-alive connection can only be ended without any risk by the server's own header: a client that is told so never
sends another request on it. The server itself cannot be changed, so its response heads are edited on their way out
(NFQUEUE, in the network namespace of its container): `Connection: keep-alive` or else the `Date` header gives its
place, padded with blanks, so that no byte moves. IPv4 only, as are the ports that Docker publishes to a container.
Sources: linux/netfilter/nfnetlink_queue.h; RFC 9110, 5.5 (blanks around a value) and 7.6.1 (Connection).
"""

from __future__ import annotations

import socket
import struct
import subprocess

QUEUE = 17
NETLINK_NETFILTER = 12
MSG_VERDICT, MSG_CONFIG, MSG_PACKET = 0x301, 0x302, 0x300
CFG_CMD, CFG_PARAMS, CFG_MASK, CFG_FLAGS = 1, 2, 4, 5
PACKET_HDR, VERDICT_HDR, PAYLOAD = 1, 2, 10
BIND, COPY_PACKET, FAIL_OPEN, ACCEPT = 1, 2, 1, 1
REQUEST, ACK, ERROR = 1, 4, 2


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind: int, flags: int, *attributes: bytes) -> bytes:
    body = struct.pack("!BBH", 0, 0, QUEUE) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def attributes(body: bytes) -> dict[int, bytes]:
    found, offset = {}, 4
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]
        offset += max(4, (length + 3) & ~3)
    return found


def closing(payload: bytes) -> bytes | None:
    """A response head that says `Connection: close`, of the same length; None when it is none or says it already."""
    head, separator, body = payload.partition(b"\r\n\r\n")
    if not payload.startswith(b"HTTP/1.1 ") or not separator or payload[9:12] == b"101":
        return None
    lines = head.split(b"\r\n")
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    at = next((names.index(name) for name in (b"connection", b"date") if name in names), None)
    if at is None or b"close" in lines[at].lower() or len(lines[at]) < len(b"Connection: close"):
        return None
    lines[at] = b"Connection: close".ljust(len(lines[at]))
    return b"\r\n".join(lines) + separator + body


def edited(packet: bytes) -> bytes | None:
    """The IPv4 packet with a closing response head and a right checksum; None when it is to go as it is."""
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return None
    start = (packet[0] & 15) * 4
    data = start + (packet[start + 12] >> 4) * 4
    payload = closing(packet[data:])
    if payload is None:
        return None
    segment = bytearray(packet[start:data] + payload)
    segment[16:18] = b"\0\0"
    pseudo = packet[12:20] + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
    segment[16:18] = struct.pack("!H", checksum(pseudo + segment))
    return packet[:start] + bytes(segment)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data = data + b"\0" if len(data) % 2 else data
    total = sum(int(word) for word in struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Polite:
    """The queue and its rule; OSError when the kernel has no such queue or the rule is refused."""

    def __init__(self, port: int) -> None:
        match = ["-p", "tcp", "--sport", str(port), "!", "-o", "lo"]
        self._rule = ["OUTPUT", *match, "-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass"]
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._configure(attribute(CFG_CMD, struct.pack("!BBH", BIND, 0, socket.AF_INET)))
        self._configure(attribute(CFG_PARAMS, struct.pack("!IB", 0xFFFF, COPY_PACKET)))
        self._configure(
            attribute(CFG_FLAGS, struct.pack("!I", FAIL_OPEN)), attribute(CFG_MASK, struct.pack("!I", FAIL_OPEN))
        )
        self._iptables("-D")  # of a run that was killed
        if not self._iptables("-I"):
            raise OSError("iptables refused the queue")

    def handle(self) -> None:
        """Lets the packets go that wait in the queue, response heads edited."""
        data, offset = self.socket.recv(1 << 18), 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if kind == MSG_PACKET:
                self._verdict(attributes(data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3

    def close(self) -> None:
        self._iptables("-D")
        self.socket.close()

    def _verdict(self, packet: dict[int, bytes]) -> None:
        number = packet[PACKET_HDR][:4]
        accept = attribute(VERDICT_HDR, struct.pack("!I", ACCEPT) + number)
        payload = edited(packet.get(PAYLOAD, b"\0" * 20))
        self.socket.send(message(MSG_VERDICT, REQUEST, accept, *([attribute(PAYLOAD, payload)] if payload else [])))

    def _configure(self, *settings: bytes) -> None:
        self.socket.send(message(MSG_CONFIG, REQUEST | ACK, *settings))
        answer = self.socket.recv(1 << 16)
        kind, code = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
        if kind == ERROR and code:
            raise OSError(-code, "the kernel refused the queue")

    def _iptables(self, verb: str) -> bool:
        command = ["iptables", "-w", "5", "-t", "mangle", verb, *self._rule]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
