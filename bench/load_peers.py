"""Other load tools, each asked for the same work: what they report, and what CPU they took.

Each returns {ttft_p50, ttft_p99, itl_p50, itl_p99 (ms), cpu_s} from its own report, for `requests` requests of
`tokens` tokens in a closed loop of `users`. A tool that is not there is named with what would bring it; none is
installed.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.checks import Side
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadrun import stream_load
from orchestrator.checks.loadshape import Level
from orchestrator.stats import percentile

PATIENCE_S = 240
LOCUSTFILE = """
import json, time
from itertools import pairwise
import gevent
from locust import HttpUser, events, task
from locust.exception import StopUser

FIRST, GAPS, LEFT, DONE = [], [], [{requests}], []

class Chat(HttpUser):
    @task
    def ask(self):
        if LEFT[0] <= 0:
            DONE.append(1)
            if len(DONE) == {users}:
                gevent.spawn_later(0.2, self.environment.runner.quit)
            raise StopUser()
        LEFT[0] -= 1
        body = {{"model": "known", "messages": [{{"role": "user", "content": "Say it."}}], "max_tokens": {tokens},
                "stream": True, "stream_options": {{"include_usage": True}}}}
        began, stamps = time.perf_counter(), []
        with self.client.post("/v1/chat/completions", json=body, stream=True, catch_response=True) as response:
            for line in response.iter_lines():
                if line.startswith(b"data: {{"):
                    event = json.loads(line[6:])
                    if event["choices"] and "role" not in event["choices"][0]["delta"]:
                        stamps.append(time.perf_counter())
            response.success()
        FIRST.append((stamps[0] - began) * 1000)
        GAPS.extend((b - a) * 1000 for a, b in pairwise(stamps))

@events.quitting.add_listener
def told(environment, **_):
    with open({out!r}, "w") as file:
        json.dump({{"first": FIRST, "gaps": GAPS}}, file)
"""


@dataclass(frozen=True)
class Work:
    """What is asked of each tool."""

    url: str
    users: int
    requests: int
    tokens: int
    folder: Path


class Absent(Exception):
    """The tool is not there; the text says what would bring it."""


def figures(first: list[float], gaps: list[float]) -> dict[str, float]:
    """Percentiles from all values, ms."""
    return {"ttft_p50": percentile(first, 50), "ttft_p99": percentile(first, 99),
            "itl_p50": percentile(gaps, 50), "itl_p99": percentile(gaps, 99)}  # fmt: skip


def ours(work: Work) -> dict[str, float]:
    """The load process, as `migrate load` runs it, its analysis included."""
    lines: list[dict[str, Any]] = []
    plan = LoadPlan((Side("vllm", work.url),), "known", (Level(work.users, work.requests),), max_tokens=work.tokens,
                    warmup=1, poll_s=0.0, timeout_s=60.0)  # fmt: skip
    before = _children_s()
    stream_load(plan, lines.append)
    spent = _children_s() - before
    samples = [line for line in lines if line["kind"] == "request"]
    first = [one["token_us"][0] / 1000 for one in samples]
    gaps = [(b - a) / 1000 for one in samples for a, b in zip(one["token_us"], one["token_us"][1:], strict=False)]
    return figures(first, gaps) | {"cpu_s": spent}


def locust(work: Work) -> dict[str, float]:
    """locust, streaming with iter_lines; percentiles of its own stamps, since its table rounds to two digits."""
    program = _program("locust", "pip install locust")
    out, script = work.folder / "locust.json", work.folder / "locustfile.py"
    script.write_text(LOCUSTFILE.format(requests=work.requests, tokens=work.tokens, users=work.users, out=str(out)))
    spent = _run([program, "-f", str(script), "--headless", "-u", str(work.users), "-r", str(work.users), "--host",
                  work.url, "--only-summary", "--stop-timeout", "30"], work.folder, good=(0, 1))  # fmt: skip
    data = json.loads(out.read_text())
    return figures(data["first"], data["gaps"]) | {"cpu_s": spent}


# Counts the CPU where a container hides it from us.
_TIMED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], 'w').write(str(used.ru_utime + used.ru_stime))
sys.exit(code)
"""


def vllm(work: Work) -> dict[str, float]:
    """`vllm bench serve`, installed, or in the image that $BENCH_VLLM_IMAGE names."""
    tokenizer, image = os.environ.get("BENCH_TOKENIZER", ""), os.environ.get("BENCH_VLLM_IMAGE")
    if not tokenizer:
        raise Absent("needs $BENCH_TOKENIZER, a folder with any tokenizer")
    times = work.folder / "times"
    if image:
        here = f"{work.folder}:{work.folder}"
        command = ["docker", "run", "--rm", "--network", "host", "-v", here, "-v", f"{tokenizer}:{tokenizer}:ro",
                   "-e", "HF_HUB_OFFLINE=1", "--entrypoint", "python3", image, "-c", _TIMED, str(times),
                   "vllm"]  # fmt: skip
    else:
        command = [_program("vllm", "pip install vllm; or $BENCH_VLLM_IMAGE names an image of it")]
    command += ["bench", "serve"]
    spent = _run([*command, "--backend", "openai-chat", "--base-url", work.url, "--endpoint", "/v1/chat/completions",
                  "--model", "known", "--tokenizer", tokenizer, "--dataset-name", "random", "--random-input-len", "32",
                  "--random-output-len", str(work.tokens), "--num-prompts", str(work.requests), "--max-concurrency",
                  str(work.users), "--percentile-metrics", "ttft,itl", "--metric-percentiles", "50,99",
                  "--save-result", "--result-dir", str(work.folder), "--result-filename", "vllm.json"],
                 work.folder)  # fmt: skip
    data = json.loads((work.folder / "vllm.json").read_text())
    return {f"{kind}_p{q}": data[f"p{q}_{kind}_ms"] for kind in ("ttft", "itl") for q in (50, 99)} | {
        "cpu_s": float(times.read_text()) if times.exists() else spent
    }


def guidellm(work: Work) -> dict[str, float]:
    """guidellm: its ITL is a mean per request, so its p99 hides single gaps."""
    program = _program("guidellm", "pip install guidellm")
    out = work.folder / "guidellm.json"
    spent = _run([program, "benchmark", "--target", work.url, "--rate-type", "concurrent", "--rate", str(work.users),
                  "--max-requests", str(work.requests), "--data", f"prompt_tokens=32,output_tokens={work.tokens}",
                  "--processor", os.environ.get("BENCH_TOKENIZER", "known"), "--output-path", str(out)],
                 work.folder)  # fmt: skip
    found = json.loads(out.read_text())["benchmarks"][0]["metrics"]
    first = found["time_to_first_token_ms"]["successful"]["percentiles"]
    gaps = found["inter_token_latency_ms"]["successful"]["percentiles"]
    return {"ttft_p50": first["p50"], "ttft_p99": first["p99"], "itl_p50": gaps["p50"], "itl_p99": gaps["p99"],
            "cpu_s": spent}  # fmt: skip


def aiperf(work: Work) -> dict[str, float]:
    """aiperf: gaps are its inter chunk latency where it writes one, else its mean per request."""
    program = _program("aiperf", "pip install aiperf")
    out = work.folder / "aiperf"
    tokenizer = os.environ.get("BENCH_TOKENIZER", "known")
    spent = _run([program, "profile", "--model", "known", "--url", work.url, "--endpoint-type", "chat", "--streaming",
                  "--concurrency", str(work.users), "--request-count", str(work.requests), "--tokenizer", tokenizer,
                  "--synthetic-input-tokens-mean", "32", "--output-tokens-mean", str(work.tokens), "--artifact-dir",
                  str(out), "--ui", "none"], work.folder, offline=False)  # fmt: skip
    (table,) = list(out.rglob("*aiperf.csv"))[:1]
    rows: dict[str, list[str]] = {}
    for row in filter(None, csv.reader(table.open())):
        rows.setdefault(row[0], row)     # further tables follow, with heads of their own
    head = rows["Metric"]
    ttft = next(row for name, row in rows.items() if name.startswith("Time to First Token"))
    gap = next(row for name, row in rows.items() if name.startswith(("Inter Chunk Latency", "Inter Token Latency")))
    at = {q: head.index(f"p{q}") for q in (50, 99)}
    return {f"{kind}_p{q}": float(row[at[q]].replace(",", "")) for kind, row in (("ttft", ttft), ("itl", gap))
            for q in (50, 99)} | {"cpu_s": spent}  # fmt: skip


TOOLS: dict[str, Callable[[Work], dict[str, float]]] = {
    "ours": ours, "vllm bench serve": vllm, "guidellm": guidellm, "aiperf": aiperf, "locust": locust,
}  # fmt: skip


def _program(name: str, remedy: str) -> str:
    """The tool's program: $BENCH_LOCUST and so on, else on the PATH."""
    found = os.environ.get(f"BENCH_{name.upper()}") or shutil.which(name)
    if not found:
        raise Absent(f"not installed ({remedy}; or $BENCH_{name.upper()} names it)")
    return found


def _run(command: list[str], folder: Path, good: tuple[int, ...] = (0,), *, offline: bool = True) -> float:
    """CPU seconds of a command and its children."""
    before = _children_s()
    with tempfile.TemporaryFile("w+") as said:
        env = {**os.environ, **({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if offline else {})}
        child = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 env=env, start_new_session=True)  # fmt: skip
        try:
            code = child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with _quietly():
                os.killpg(child.pid, 9)
            child.wait()
        if code not in good:
            said.seek(0)
            tail = re.sub(r"\s+", " ", said.read()[-400:])
            raise Absent(f"ended with {code}: {tail}")
    return _children_s() - before


def _quietly() -> Any:
    from contextlib import suppress

    return suppress(ProcessLookupError)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
