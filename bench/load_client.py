"""How true are a load tool's figures? Ours beside vllm bench serve, guidellm, aiperf and locust, where they are there.

    python bench/load_client.py [--users 64 256] [--passes 3] [--tools ours locust]

Every tool gets the same work from the same server, which streams on absolute deadlines and stamps what it sends
(orchestrator/checks/timingserver.py), in a closed loop whose users start together, tools in turn. A tool's error is
what it reports minus what the server did. A pass in which the server itself was late is repeated, not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load_peers import TOOLS, Absent, Work
from orchestrator.checks.selfcheck import STALL_MS, Trial, known_server
from orchestrator.stats import percentile

TTFT_MS, GAP_MS, TOKENS = 200.0, 20.0, 64
COLUMNS = ("ttft_p50", "ttft_p99", "itl_p99", "cpu_s")


def one_pass(tool: str, users: int, requests: int) -> dict[str, float] | None:
    """Errors (ms) and CPU (s) of one pass, None where the server itself was late."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "server.jsonl"
        with known_server(Trial(tool, users, GAP_MS, TOKENS, TTFT_MS), log) as url:
            said = TOOLS[tool](Work(url, users, requests, TOKENS, folder))
        answers = [json.loads(line) for line in log.open()]
    late = [(at - due) / 1e6 for one in answers for at, due in zip(one["sent_ns"], one["due_ns"], strict=True)]
    if percentile(late, 99) > STALL_MS:
        return None
    whole = [one for one in answers if len(one["sent_ns"]) == TOKENS]
    first = [(one["sent_ns"][0] - one["read_ns"]) / 1e6 for one in whole]
    gaps = [(b - a) / 1e6 for one in whole for a, b in pairwise(one["sent_ns"])]
    true = {"ttft_p50": percentile(first, 50), "ttft_p99": percentile(first, 99), "itl_p99": percentile(gaps, 99)}
    return {name: abs(said[name] - true[name]) for name in true} | {"cpu_s": said["cpu_s"]}


def measure(tools: list[str], users: int, passes: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    for _ in range(3 * passes):
        for tool in list(found):
            if len(found[tool]) >= passes:
                continue
            try:
                figures = one_pass(tool, users, 2 * users)
            except Absent as reason:
                print(f"{users:5d} users  {tool:17s} {reason}", flush=True)
                del found[tool]
                continue
            if figures:
                found[tool].append(figures)
    for tool in [tool for tool, passed in found.items() if not passed]:
        print(f"{users:5d} users  {tool:17s} the server was late in every pass: use a quieter machine", flush=True)
    return {tool: {k: median(one[k] for one in some) for k in COLUMNS} for tool, some in found.items() if some}


def show(users: int, rows: dict[str, dict[str, float]]) -> None:
    for tool, row in rows.items():
        cells = "  ".join(f"{name} {row[name]:8.2f}" for name in COLUMNS)
        against = ""
        if tool != "ours" and "ours" in rows:
            against = "  = ours x " + ", ".join(f"{row[k] / max(rows['ours'][k], 1e-2):.1f}" for k in COLUMNS)
        print(f"{users:5d} users  {tool:17s} {cells}{against}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    options = parser.parse_args()
    print(f"true TTFT {TTFT_MS:g} ms, gap {GAP_MS:g} ms, {TOKENS} tokens, two requests a user; errors in ms, CPU in s, "
          "medians of passes", flush=True)  # fmt: skip
    for users in options.users:
        show(users, measure(options.tools, users, options.passes))


if __name__ == "__main__":
    main()
