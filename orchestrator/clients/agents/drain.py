"""Waits until nobody is connected to a server any more; runs in the network namespace of its container.

Responses are made to say `Connection: close` (see polite.py), so that connections in use end with their next one.
A connection that stays idle after its response has ended is closed (SOCK_DESTROY), so that its client opens a new
one elsewhere; one that is being answered is waited for. TCP cannot tell a finished response from a stream that pauses,
so the packets are watched: a response has ended when its last bytes were the final chunk or filled its length.
A connection that was silent since before we looked counts as idle only after `idle_s`.

Input (first argument, JSON): {"port", "quiet_s", "idle_s", "bound_s", "until": "closed" | "quiet"}.
Output: JSON lines {"open", "busy", "closed", "done"}, one when something changed and every two seconds.
Sources: linux/inet_diag.h, linux/sock_diag.h, linux/tcp.h (struct tcp_info), packet(7).
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

from orchestrator.clients.agents.polite import Polite

TICK_S = 0.05
ZERO_TICKS = 8  # nobody connected for this many ticks in a row: nobody is on the way either
SAY_EVERY_S = 2.0
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 4, 20, 21
NLM_REQUEST, NLM_ACK, NLM_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 4, 0x300, 2, 3
ESTABLISHED, SYN_RECV, FIN_WAIT1, CLOSE_WAIT, LAST_ACK = 1, 3, 4, 8, 9
INET_DIAG_INFO = 2
ETH_P_ALL, PACKET_OUTGOING = 3, 4
Peer = tuple[bytes, int]


@dataclass
class Sock:
    family: int
    state: int
    sockid: bytes
    peer: Peer
    unsent: int  # bytes in the send queue
    unread: int  # bytes that the server has not read yet
    sent_ago: float
    received_ago: float
    received: int  # bytes in the whole life of the connection


@dataclass
class Watched:
    """What the packets of one connection have shown."""

    ended: float | None = None  # when its response ended; None while one is awaited or under way
    end_seq: int | None = None  # sequence number at which a response of known length ends


def plain(address: bytes) -> bytes:
    """An IPv4 address in IPv6 clothes (::ffff:a.b.c.d) as the four bytes it is."""
    return address[12:] if len(address) == 16 and address[:12] == bytes(10) + b"\xff\xff" else address


def parse_sock(message: bytes) -> Sock:
    """One answer of the kernel's socket dump (struct inet_diag_msg and its attributes)."""
    family, state = message[0], message[1]
    sockid = message[4:52]
    dport = struct.unpack_from("!H", sockid, 2)[0]
    remote = plain(sockid[20 : 24 if family == socket.AF_INET else 36])
    rqueue, wqueue = struct.unpack_from("=II", message, 56)
    info, offset = b"", 72
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if kind == INET_DIAG_INFO:
            info = message[offset + 4 : offset + length]
        offset += max(4, (length + 3) & ~3)
    sent, received = (struct.unpack_from("=I", info, at)[0] / 1000 if len(info) >= 60 else 0.0 for at in (44, 52))
    total = struct.unpack_from("=Q", info, 128)[0] if len(info) >= 136 else 1
    return Sock(family, state, sockid, (remote, dport), wqueue, rqueue, sent, received, total)


def request(kind: int, flags: int, family: int, states: int, sockid: bytes) -> bytes:
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, states) + sockid
    return struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_REQUEST, 1, 0) + body


class Kernel:
    """The TCP connections to one local port, and the means to close one."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)

    def close(self) -> None:
        self._netlink.close()

    def connections(self) -> list[Sock]:
        states = sum(1 << one for one in (ESTABLISHED, SYN_RECV, FIN_WAIT1, CLOSE_WAIT, LAST_ACK))
        found = [one for family in (socket.AF_INET, socket.AF_INET6) for one in self._dump(family, states)]
        return [one for one in found if not (one.peer[0][:1] == b"\x7f" or one.peer[0] == bytes(15) + b"\x01")]

    def _dump(self, family: int, states: int) -> list[Sock]:
        sockid = struct.pack("!HH", self.port, 0) + bytes(44)
        self._netlink.send(request(SOCK_DIAG_BY_FAMILY, NLM_DUMP, family, states, sockid))
        found: list[Sock] = []
        while True:
            for kind, body in self._messages():
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return found
                if struct.unpack_from("!H", body, 4)[0] == self.port:
                    found.append(parse_sock(body))

    def _messages(self) -> list[tuple[int, bytes]]:
        data, offset, found = self._netlink.recv(1 << 18), 0, []
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            found.append((kind, data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        return found

    def destroy(self, sock: Sock) -> bool:
        """Closes a connection; False when the kernel cannot (CONFIG_INET_DIAG_DESTROY) or may not."""
        self._netlink.send(request(SOCK_DESTROY, NLM_ACK, sock.family, 0xFFFFFFFF, sock.sockid))
        return all(struct.unpack_from("=i", body)[0] == 0 for kind, body in self._messages() if kind == NLMSG_ERROR)


class Packets:
    """Follows the responses on the wire, as far as knowing when each has ended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.watched: dict[Peer, Watched] = {}
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)

    def watch(self, seconds: float, polite: Polite | None) -> None:
        until = time.monotonic() + seconds
        sockets = [self._wire, *([polite.socket] if polite else [])]
        while (left := until - time.monotonic()) > 0:
            ready = select.select(sockets, [], [], left)[0]
            if polite and polite.socket in ready:
                polite.handle()
            if self._wire in ready:
                data, address = self._wire.recvfrom(1 << 17)
                self.packet(data, outgoing=address[2] == PACKET_OUTGOING, now=time.monotonic())

    def packet(self, data: bytes, *, outgoing: bool, now: float) -> None:
        parsed = parse_packet(data)
        if parsed is None:
            return
        source, sport, target, dport, seq, payload = parsed
        if not payload or self.port != (sport if outgoing else dport):
            return
        if not outgoing:
            self.watched[(source, sport)] = Watched()  # a request: whatever was known before is over
            return
        one = self.watched.setdefault((target, dport), Watched())
        one.ended = now if response_ends(one, seq, payload) else None


def parse_packet(data: bytes) -> tuple[bytes, int, bytes, int, int, bytes] | None:
    """(source, port, target, port, sequence number, payload) of a TCP packet; None for anything else."""
    if not data:
        return None
    version = data[0] >> 4
    if version == 4 and len(data) >= 20 and data[9] == socket.IPPROTO_TCP:
        start, end = (data[0] & 15) * 4, struct.unpack_from("!H", data, 2)[0]
        source, target = data[12:16], data[16:20]
    elif version == 6 and len(data) >= 40 and data[6] == socket.IPPROTO_TCP:
        start, end = 40, 40 + struct.unpack_from("!H", data, 4)[0]
        source, target = plain(data[8:24]), plain(data[24:40])
    else:
        return None
    end = end if end > start else len(data)  # a length of zero: a segment larger than the field can say
    if len(data) < start + 20:
        return None
    sport, dport, seq = struct.unpack_from("!HHI", data, start)
    return source, sport, target, dport, seq, data[start + (data[start + 12] >> 4) * 4 : end]


def response_ends(one: Watched, seq: int, payload: bytes) -> bool:
    """Whether the response ends with this segment; notes where it will end when it says its length."""
    if payload.startswith(b"HTTP/1."):
        one.end_seq = None
        head, separator, _ = payload.partition(b"\r\n\r\n")
        length = content_length(head)
        if separator and length is not None:
            one.end_seq = (seq + len(head) + 4 + length) & 0xFFFFFFFF
    if one.end_seq is not None:
        return ((seq + len(payload) - one.end_seq) & 0xFFFFFFFF) < 1 << 31
    return payload == b"0\r\n\r\n" or payload.endswith(b"\r\n0\r\n\r\n")


def content_length(head: bytes) -> int | None:
    if head[9:12] in (b"204", b"304"):
        return 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


def idle(sock: Sock, watched: Watched | None, now: float, quiet_s: float, idle_s: float) -> bool:
    """Whether a connection waits for its next request, with nothing under way in either direction."""
    if sock.state != ESTABLISHED or sock.unsent or sock.unread:
        return False
    if sock.received == 0:  # opened ahead of need
        return sock.received_ago >= 1
    if sock.sent_ago > sock.received_ago:  # the client spoke last
        return False
    if watched and watched.ended is not None:
        ago = now - watched.ended
        return ago >= quiet_s and abs(ago - sock.sent_ago) < 0.1  # nothing was sent since that we did not see
    return sock.sent_ago >= idle_s


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


def drain(ask: dict[str, Any], kernel: Kernel, packets: Packets, polite: Polite | None) -> None:
    start, zero, closed, said, said_at = time.monotonic(), 0, 0, None, 0.0
    while True:
        packets.watch(TICK_S, polite)
        now = time.monotonic()
        # Clients that hardly pause are left only where heads cannot be edited: take shorter pauses too, in the end.
        late = not polite and now - start > ask["bound_s"] / 2
        quiet_s = min(ask["quiet_s"], 0.03) if late else ask["quiet_s"]
        open_now = busy = 0
        for sock in kernel.connections():
            watched = packets.watched.get(sock.peer)
            if not idle(sock, watched, now, quiet_s, ask["idle_s"]):
                open_now, busy = open_now + 1, busy + (not idle(sock, watched, now, 0, ask["idle_s"]))
            elif ask["until"] == "closed" and kernel.destroy(sock):
                closed += 1
            else:
                open_now += 1
        reached = busy == 0 if ask["until"] == "quiet" else open_now == 0
        zero = zero + 1 if reached else 0
        done = zero >= (1 if ask["until"] == "quiet" else ZERO_TICKS)
        state = (open_now, busy, closed)
        over = done or now - start > ask["bound_s"]
        if over or now - said_at > SAY_EVERY_S or (state != said and now - said_at > 0.2):
            say(open=open_now, busy=busy, closed=closed, done=done, over=over)
            said, said_at = state, now
        if over:
            return


def main(argument: str) -> None:
    ask = json.loads(argument)
    try:
        polite = Polite(ask["port"]) if ask["until"] == "closed" else None
    except OSError:  # no such queue in this kernel: idle connections are closed, the others end by themselves
        polite = None
    kernel = Kernel(ask["port"])
    try:
        drain(ask, kernel, Packets(ask["port"]), polite)
    finally:
        kernel.close()
        if polite:
            polite.close()


if __name__ == "__main__":
    main(sys.argv[1])
