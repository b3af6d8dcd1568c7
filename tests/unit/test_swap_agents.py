"""The programs that run beside a container: nat rules, when a response has ended, how a response head is edited."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys

import pytest

from orchestrator.clients.agents import drain, nat, polite
from orchestrator.clients.netfilter import bundle

CLIENT, SERVER, PORT = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1]), 11434


class Iptables:
    """A packet filter as far as -S, -C, -I and -D go; `docker` names the kind whose nat table Docker uses."""

    def __init__(self, docker: str = "-nft") -> None:
        self.docker = docker
        self.chains: dict[tuple[str, str], list[list[str]]] = {}

    def run(self, command: list[str]) -> tuple[int, str]:
        tool, verb, chain, words = command[0], command[5], command[6], command[7:]
        if chain == "DOCKER":
            rule = "-A DOCKER ! -i br-1 -p tcp -m tcp --dport 24001 -j DNAT --to-destination 172.18.0.3:11434\n"
            return (0, rule) if tool == "iptables" + self.docker else (1, "no chain")
        rules = self.chains.setdefault((tool, chain), [])
        if verb == "-S":
            return 0, "".join(f"-A {chain} {' '.join(rule)}\n" for rule in rules)
        if verb == "-C":
            return (0, "") if words in rules else (1, "")
        if verb == "-I":
            rules.insert(0, words[1:])
        else:
            rules.remove(words)
        return 0, ""


def ask(iptables: Iptables, do: str, listen: tuple[str, ...] = ("127.0.0.1",), moves: tuple = ()) -> list[str]:
    asked = {"do": do, "comment": "migrate:demo", "listen": listen, "port": 24000, "to": 24001, "moves": moves}
    return list(nat.main(json.dumps(asked), iptables.run)["rules"])


def test_a_loopback_port_is_redirected_for_clients_on_the_host_only() -> None:
    assert ask(Iptables(), "insert") == [
        "-A OUTPUT -m comment --comment migrate:demo -p tcp -d 127.0.0.1 --dport 24000 -j REDIRECT --to-ports 24001"
    ]


def test_a_public_port_goes_to_the_container_first_and_to_its_proxy_for_the_rest() -> None:
    iptables = Iptables()
    ask(iptables, "insert", ("0.0.0.0", "::"))
    chain = [" ".join(rule) for rule in iptables.chains["iptables-nft", "PREROUTING"]]
    assert chain[0].endswith(
        "! -i br-1 -p tcp -m addrtype --dst-type LOCAL --dport 24000 -j DNAT --to-destination 172.18.0.3:11434"
    )
    assert chain[1].endswith("-p tcp -m addrtype --dst-type LOCAL --dport 24000 -j REDIRECT --to-ports 24001")
    assert len(iptables.chains["ip6tables-nft", "OUTPUT"]) == 1


def test_clients_on_a_docker_network_move_from_container_to_container() -> None:
    rules = ask(Iptables(), "insert", (), (("172.18.0.2", 11434, "172.18.0.3:11434"),))
    assert [rule.partition("migrate:demo ")[2] for rule in rules] == [
        "-p tcp -d 172.18.0.2 --dport 11434 -j DNAT --to-destination 172.18.0.3:11434"
    ]


def test_inserting_twice_changes_nothing_and_removing_takes_only_our_own() -> None:
    iptables = Iptables()
    foreign = ["-m", "comment", "--comment", "migrate:demo2", "-j", "ACCEPT"]
    iptables.chains["iptables-nft", "OUTPUT"] = [foreign]
    once = ask(iptables, "insert")
    assert ask(iptables, "insert") == once
    assert ask(iptables, "remove") == []
    assert iptables.chains["iptables-nft", "OUTPUT"] == [foreign]


def test_the_iptables_is_the_one_that_docker_uses() -> None:
    iptables = Iptables(docker="-legacy")
    ask(iptables, "insert")
    assert [tool for (tool, _), rules in iptables.chains.items() if rules] == ["iptables-legacy"]


def segment(payload: bytes, seq: int = 1, *, to_client: bool = True) -> bytes:
    """An IPv4 packet between server and client, its TCP checksum right."""
    ends = (SERVER, PORT, CLIENT, 50000) if to_client else (CLIENT, 50000, SERVER, PORT)
    tcp = bytearray(struct.pack("!HHIIBBHHH", ends[1], ends[3], seq, 0, 5 << 4, 0x18, 512, 0, 0) + payload)
    pseudo = ends[0] + ends[2] + struct.pack("!BBH", 0, 6, len(tcp))
    tcp[16:18] = struct.pack("!H", polite.checksum(pseudo + tcp))
    return struct.pack("!BBHIBBH", 0x45, 0, 20 + len(tcp), 0, 64, 6, 0) + ends[0] + ends[2] + bytes(tcp)


def watched(*packets: tuple[bytes, bool]) -> drain.Watched:
    packet_log = drain.Packets.__new__(drain.Packets)
    packet_log.port, packet_log.watched = PORT, {}
    for number, (data, to_client) in enumerate(packets):
        packet_log.packet(data, outgoing=to_client, now=float(number))
    return packet_log.watched[CLIENT, 50000]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REQUEST = (segment(b"POST /api/chat HTTP/1.1\r\n\r\n", to_client=False), False)


@pytest.mark.parametrize(
    "responses, ended",
    [
        ([CHUNKED, b"5\r\nhello\r\n"], False),
        ([CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"], True),
        ([CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], True),
        ([CHUNKED, b"7\r\n10\\r\\n\r\n"], False),
        ([HEAD + b"Content-Length: 5\r\n\r\nhello"], True),
        ([HEAD + b"Content-Length: 9\r\n\r\nhello"], False),
        ([HEAD + b"Content-Length: 9\r\n\r\nhello", b"more"], True),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], True),
    ],
)
def test_the_end_of_a_response_is_seen_on_the_wire(responses: list[bytes], ended: bool) -> None:
    seq, packets = 1, [REQUEST]
    for payload in responses:
        packets.append((segment(payload, seq), True))
        seq += len(payload)
    assert (watched(*packets).ended is not None) is ended


def test_a_new_request_makes_a_finished_connection_busy_again() -> None:
    assert watched(REQUEST, (segment(CHUNKED + b"0\r\n\r\n"), True), REQUEST).ended is None


def sock(**changes: object) -> drain.Sock:
    facts = {"family": 2, "state": drain.ESTABLISHED, "sockid": b"", "peer": (CLIENT, 50000), "unsent": 0, "unread": 0}
    facts |= {"sent_ago": 1.0, "received_ago": 4.0, "received": 100}
    return drain.Sock(**{**facts, **changes})


@pytest.mark.parametrize(
    "changes, ended, idle",
    [
        ({}, 9.0, True),  # response seen to end 1 s ago, at 10 - 1
        ({"sent_ago": 0.3}, 9.0, False),  # something was sent since: packets were missed
        ({"sent_ago": 0.3}, 9.7, False),  # ended, but only just
        ({}, None, False),  # a stream that pauses
        ({"sent_ago": 12.0, "received_ago": 13.0}, None, True),  # silent since before we looked
        ({"sent_ago": 13.0, "received_ago": 12.0}, None, False),  # a request waits for its answer
        ({"unread": 5}, 9.0, False),
        ({"unsent": 5}, 9.0, False),
        ({"state": drain.CLOSE_WAIT}, 9.0, False),
        ({"received": 0, "received_ago": 2.0}, None, True),  # opened ahead of need
    ],
)
def test_only_a_connection_with_nothing_under_way_is_idle(changes: dict, ended: float | None, idle: bool) -> None:
    assert drain.idle(sock(**changes), drain.Watched(ended=ended), 10.0, 0.75, 10) is idle


def test_the_kernel_tells_the_connections_of_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        kernel = drain.Kernel(port)
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as accepted:
            accepted.recv(client.send(b"hello"))
            found = kernel._dump(socket.AF_INET, 1 << drain.ESTABLISHED)
            peer = (b"\x7f\0\0\x01", client.getsockname()[1])
        kernel.close()
    assert [(one.peer, one.received, one.unread) for one in found] == [(peer, 5, 0)]


@pytest.mark.parametrize("header", [b"Date: Sat, 21 Nov 2026 03:00:00 GMT", b"Connection: keep-alive"])
def test_a_response_head_is_made_to_close_without_moving_a_byte(header: bytes) -> None:
    packet = segment(b"HTTP/1.1 200 OK\r\nServer: x\r\n" + header + b"\r\nContent-Length: 2\r\n\r\nhi")
    edited = polite.edited(packet)
    assert edited is not None
    assert len(edited) == len(packet)
    assert b"\r\nConnection: close " in edited
    assert edited.endswith(b"\r\nContent-Length: 2\r\n\r\nhi")
    pseudo = edited[12:20] + struct.pack("!BBH", 0, 6, len(edited) - 20)
    assert polite.checksum(pseudo + edited[20:]) == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"5\r\nhello\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\nX: cut in the mid",
        b"HTTP/1.0 200 OK\r\nDate: Sat, 21 Nov 2026 03:00:00 GMT\r\n\r\n",
        b"",
    ],
)
def test_everything_else_goes_as_it_is(payload: bytes) -> None:
    assert polite.edited(segment(payload)) is None


@pytest.mark.parametrize("agent", ["nat", "drain"])
def test_an_agent_is_one_program_that_needs_nothing_of_ours(agent: str) -> None:
    program = bundle(agent).replace("__main__", "nowhere")  # define all, run nothing
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
