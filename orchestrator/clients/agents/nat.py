"""Inserts, lists and removes the nat rules of a port swap; runs in a container on the host's network.

Input (first argument, JSON): {"do": "insert" | "list" | "remove", "comment", "port", "to", "listen": [addresses],
"moves": [[address, port, address:port]]}; the moves are for clients on a Docker network.
Output (JSON): {"rules": [text of our rules in force], "tool": name of the iptables used}.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

FLAVOURS = ("-nft", "-legacy", "")
NO_SUCH_RULE = 1  # exit code of iptables for a rule or a chain that is not there; 4: try again
CHAINS = ("OUTPUT", "PREROUTING")
Run = Callable[[list[str]], tuple[int, str]]


def run(command: list[str]) -> tuple[int, str]:
    """Exit code and output of a command, tried again while others change the rules; 127: no such program."""
    for wait in (0.1, 0.3, 1.0, 0.0):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return 127, f"{command[0]}: not found"
        if done.returncode in (0, NO_SUCH_RULE):
            break
        time.sleep(wait)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def flavour(run: Run) -> str:
    """Which iptables Docker uses here: the one whose nat table has Docker's chain."""
    said = []
    for suffix in FLAVOURS:
        code, text = run([*tool(suffix, ""), "-S", "DOCKER"])
        if code == 0:
            return suffix
        said.append(text.strip())
    raise SystemExit(f"no iptables here whose nat table holds Docker's rules ({'; '.join(filter(None, said))})")


def tool(suffix: str, address: str) -> list[str]:
    return [("ip6tables" if ":" in address else "iptables") + suffix, "-w", "5", "-t", "nat"]


def container_of(docker_rules: str, port: int) -> tuple[str, str] | None:
    """(bridge, address:port of the container) behind a published port, as Docker's own DNAT rule has them."""
    for line in docker_rules.splitlines():
        words = shlex.split(line)
        if "--to-destination" in words and "--dport" in words and words[words.index("--dport") + 1] == str(port):
            bridge = words[words.index("-i") + 1] if "-i" in words else ""
            return bridge, words[words.index("--to-destination") + 1]
    return None


def wanted(address: str, port: int, to: int, target: tuple[str, str] | None) -> list[tuple[str, list[str]]]:
    """(chain, match and target) of each rule for one published address, in the order in which they must stand.

    Clients on the host come through OUTPUT and are sent to the other port's userland proxy. All others come
    through PREROUTING and go to the container itself, as with Docker's own rule: a host firewall that closes
    unknown ports does not see them. A loopback address is reached from the host only.
    """
    any_address = address in ("0.0.0.0", "::")
    where = ["-m", "addrtype", "--dst-type", "LOCAL"] if any_address else ["-d", address]
    match = ["-p", "tcp", *where, "--dport", str(port)]
    redirect = ["-j", "REDIRECT", "--to-ports", str(to)]
    rules = [("OUTPUT", [*match, *redirect])]
    if address.startswith("127.") or address == "::1":
        return rules
    if target and ":" not in address:
        bridge, destination = target
        not_from = ["!", "-i", bridge] if bridge else []
        rules.append(("PREROUTING", [*not_from, *match, "-j", "DNAT", "--to-destination", destination]))
    return [*rules, ("PREROUTING", [*match, *redirect])]


def moved(address: str, port: int, to: str) -> tuple[str, list[str]]:
    """The rule that takes a container's new clients on its own network to another container there.

    Such packets stay on the bridge; they pass PREROUTING where bridge-nf-call-iptables is on, as Docker sets it.
    """
    return "PREROUTING", ["-p", "tcp", "-d", address, "--dport", str(port), "-j", "DNAT", "--to-destination", to]


def insert(ask: dict[str, Any], suffix: str, run: Run) -> None:
    docker_rules = run([*tool(suffix, ""), "-S", "DOCKER"])[1]
    target = container_of(docker_rules, ask["to"])
    for address in ask["listen"]:
        base = tool(suffix, address)
        if address == "::" and len(ask["listen"]) > 1 and run([*base, "-S", "OUTPUT"])[0]:
            continue  # no IPv6 on this host, although Docker names it
        put(wanted(address, ask["port"], ask["to"], target), base, ask["comment"], run)
    put([moved(*move) for move in ask["moves"]], tool(suffix, ""), ask["comment"], run)


def put(rules: list[tuple[str, list[str]]], base: list[str], comment: str, run: Run) -> None:
    for chain, words in reversed(rules):  # each is put first, so the last one inserted stands first
        tagged = ["-m", "comment", "--comment", comment, *words]
        if run([*base, "-C", chain, *tagged])[0] == 0:
            continue
        code, said = run([*base, "-I", chain, "1", *tagged])
        if code:
            raise SystemExit(f"{base[0]}: {said.strip()}")


def ours(comment: str, base: list[str], run: Run) -> list[list[str]]:
    """Our rules in force, each as the words of its -A line."""
    found = []
    for chain in CHAINS:
        code, text = run([*base, "-S", chain])
        lines = [shlex.split(line) for line in text.splitlines()] if code == 0 else []
        found += [words for words in lines if "--comment" in words and _comment(words) == comment]
    return found


def _comment(words: list[str]) -> str:
    return words[words.index("--comment") + 1]


def bases(run: Run) -> list[list[str]]:
    """Every iptables that may hold a rule of ours: both families, and each kind that is installed."""
    names = [name + suffix for suffix in FLAVOURS for name in ("iptables", "ip6tables")]
    found = [[name, "-w", "5", "-t", "nat"] for name in names]
    return [base for base in found if run([*base, "-S", "OUTPUT"])[0] == 0]


def remove(comment: str, run: Run) -> None:
    for base in bases(run):
        for words in ours(comment, base, run):
            run([*base, "-D", *words[1:]])


def main(argument: str, run: Run = run) -> dict[str, Any]:
    ask = json.loads(argument)
    suffix = flavour(run) if ask["do"] == "insert" else ""
    if ask["do"] == "insert":
        insert(ask, suffix, run)
    if ask["do"] == "remove":
        remove(ask["comment"], run)
    rules = [shlex.join(words) for base in bases(run) for words in ours(ask["comment"], base, run)]
    return {"rules": sorted(set(rules)), "tool": "iptables" + suffix}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))  # noqa: T201
