"""Queueing against batching: the same tiny model behind Ollama's queue of one and behind vLLM, over rising users.

tools/engine run .venv/bin/python bench/curves.py [--users 1 2 4 8 16] [--pairs 3] [--tokens 32] [--out FILE.jsonl]

Both sides compute on the same real vLLM (its CPU build; one container, loaded by one side at a time). The old side
is the stand-in Ollama with OLLAMA_NUM_PARALLEL=1 in front of it: what differs is only who waits for whom. `--engine
URL` takes a vLLM that runs already and serves llama3.1:8b. Measured and judged as `migrate up` does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.scene import MODEL, SHARED_CPU, TINY, free_port, models_folder, wait_for
from orchestrator.checks import Side
from orchestrator.checks.load import LoadThresholds, judge_load, run_load
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadshape import Level
from orchestrator.clients.docker import Docker, RunSpec

NAME = "migrate-bench-curves"
IMAGE = "migrate/vllm-cpu:dev"
SEQUENCES = 32


@contextmanager
def engine(port: int) -> Iterator[str]:
    docker = Docker()
    words = [TINY, "--served-model-name", MODEL, "--max-model-len", "2048", "--max-num-seqs", str(SEQUENCES),
             "--enforce-eager", "--generation-config", "vllm"]  # fmt: skip
    docker.run(RunSpec(
        image=IMAGE, name=NAME, command=words, labels={}, shm_size="1g", publish=[("127.0.0.1", port, 8000)],
        mounts=[(str(models_folder()), "/models", True)],
        env={"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **SHARED_CPU},
    ))  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/health", 240)
        yield f"http://127.0.0.1:{port}"
    finally:
        docker.remove(NAME)


@contextmanager
def queue_of_one(port: int, backend: str, folder: str) -> Iterator[str]:
    """Ollama as it is out of the box on a small machine: one request at a time, the others wait."""
    wanted = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_NUM_PARALLEL": "1", "OLLAMA_KEEP_ALIVE": "-1",
              "OLLAMA_MODELS": folder, "STANDIN_BACKEND": backend, "STANDIN_LOAD_S": "0"}  # fmt: skip
    with subprocess.Popen([sys.executable, "-m", "orchestrator.standin.ollama", "serve"], env={**os.environ, **wanted},
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/api/version", 30)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def rows(evidence: dict[str, Any]) -> Iterator[str]:
    yield "| users | TTFT p50 (ms): Ollama, vLLM | answer p50 (ms) | answer p95 (ms) | output tokens/s | ratio |"
    yield "|---|---|---|---|---|---|"
    for level in evidence["levels"]:
        old, new = level["ollama"], level["vllm"]
        cells = [_both(old[name][q]["value"], new[name][q]["value"])
                 for name, q in (("ttft_ms", "p50"), ("e2e_ms", "p50"), ("e2e_ms", "p95"))]  # fmt: skip
        rate = (old["output_tokens_per_s"], new["output_tokens_per_s"])
        ratio = f"{rate[1] / rate[0]:.2f}x" if all(rate) else "-"
        yield f"| {level['users']} | {' | '.join(cells)} | {_both(*rate)} | {ratio} |"


def growth(evidence: dict[str, Any]) -> Iterator[str]:
    """What the curves do between the first level and the last."""
    first, last = evidence["levels"][0], evidence["levels"][-1]
    for side in ("ollama", "vllm"):
        wait = last[side]["e2e_ms"]["p50"]["value"] / first[side]["e2e_ms"]["p50"]["value"]
        rate = last[side]["output_tokens_per_s"] / first[side]["output_tokens_per_s"]
        yield (f"{side}: from {first['users']} to {last['users']} users an answer takes {wait:.1f} times as long, "
               f"the output grows to {rate:.2f} times")  # fmt: skip


def _both(old: float | None, new: float | None) -> str:
    return ", ".join("-" if one is None else f"{one:,.0f}" for one in (old, new))


@contextmanager
def _running(url: str) -> Iterator[str]:
    yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--requests", type=int, default=4, help="of each user in a run")
    parser.add_argument("--engine", metavar="URL")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    levels = tuple(Level(users, max(users * args.requests, 22)) for users in args.users)
    with (
        tempfile.TemporaryDirectory() as folder,
        _running(args.engine) if args.engine else engine(free_port(28000)) as new,
        queue_of_one(free_port(28200), new, folder) as old,
    ):
        plan = LoadPlan((Side("ollama", old), Side("vllm", new)), MODEL, levels, max_tokens=args.tokens,
                        repeats=args.pairs, level_s=120.0)  # fmt: skip
        results = run_load(plan, _told)
    verdict = judge_load(results, LoadThresholds(users=max(args.users), min_n=1))
    if "comparison" not in verdict.evidence:
        sys.exit(f"{verdict.result}: {verdict.summary}")
    print(*rows(verdict.evidence), "", *growth(verdict.evidence), f"{verdict.result}: {verdict.summary}", sep="\n")
    if args.out:
        args.out.write_text("".join(f"{line}\n" for line in results.lines()), encoding="utf-8")


def _told(seen: dict[str, Any]) -> None:
    print(f"{seen['users']} users on {seen['side']}: {seen['done']} of {seen['of']}   ", end="\r", file=sys.stderr)


if __name__ == "__main__":
    main()
