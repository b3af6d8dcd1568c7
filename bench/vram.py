"""Predicted against real GPU memory of a vLLM, on a machine with an NVIDIA GPU.

    python bench/vram.py [CONFIG.json ...] [--gpu 0] [--image vllm/vllm-openai:v0.32.0] [--max-model-len 4096]

Every configuration is started with dummy weights (nothing is downloaded), 1 GiB of cache and 16 sequences; its log
and NVML are read, then it is removed. Without arguments: the full-size models of tests/cases/memory that fit.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from orchestrator.clients.gpu import look
from orchestrator.decide.catalog import Numbers
from orchestrator.decide.kv import token_bytes
from orchestrator.decide.shapes import from_config
from orchestrator.decide.vram import GIB, Ask, gib
from orchestrator.decide.weights import parameters, size

CASES = Path(__file__).parent.parent / "tests" / "cases" / "memory"
CACHE = GIB
_LINES = {
    "weights": r"Model loading took ([\d.]+) GiB",
    "tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "graphs": r"Graph capturing finished in .* took ([\d.-]+) GiB",
}


def readings(log: str) -> dict[str, float]:
    """Return what vLLM's start log says: weights and graphs in GiB, tokens of cache."""
    found = {name: re.search(pattern, log) for name, pattern in _LINES.items()}
    return {name: float(one[1].replace(",", "")) for name, one in found.items() if one}


def predicted(config: dict[str, Any], total: int, length: int) -> dict[str, tuple[float, float]]:
    """Return (low, high) of each quantity, in GiB or tokens."""
    shape, counted = from_config(config), parameters(config)
    weights = size(counted, "bf16")
    numbers = Numbers(params_b=counted.total / 1e9, hidden=shape.hidden, intermediate=shape.intermediate,
                      vocab=shape.vocab)  # fmt: skip
    ask = Ask("bench", numbers, max_model_len=length, shape=shape)
    fixed = CACHE + ask.context()
    tokens = CACHE / (token_bytes(shape) or CACHE)
    return {
        "weights": (weights.low / GIB, weights.high / GIB),
        "tokens": (tokens * 0.99, tokens),
        "whole": ((weights.low + CACHE) / GIB, (weights.high + fixed + ask.activations(total) + ask.graphs()) / GIB),
    }


def used(index: str) -> int:
    gpu = next(one for one in look().gpus if one.index == index)
    return gpu.total - gpu.free


def measure(config: dict[str, Any], image: str, index: str, length: int) -> dict[str, float]:
    """Start one engine, wait until it serves or ends, and return its readings."""
    before, name = used(index), "migrate-bench-vram"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps({"torch_dtype": "bfloat16", **config}))
        command = ["docker", "run", "-d", "--name", name, "--gpus", f"device={index}", "--ipc", "private",
                   "-v", f"{folder}:/model:ro", image, "/model", "--load-format", "dummy", "--skip-tokenizer-init",
                   "--max-model-len", str(length), "--max-num-seqs", "16",
                   "--kv-cache-memory-bytes", str(CACHE)]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
            while True:
                time.sleep(2)
                done = subprocess.run(["docker", "logs", name], check=True, capture_output=True, text=True)
                log = done.stdout + done.stderr
                if "Application startup complete" in log:
                    return {**readings(log), "whole": (used(index) - before) / GIB}
                state = subprocess.run(["docker", "inspect", "-f", "{{.State.Running}}", name], check=True,
                                       capture_output=True, text=True).stdout  # fmt: skip
                if state.strip() != "true":
                    raise SystemExit(f"vLLM ended: {log[-1500:]}")
        finally:
            subprocess.run(["docker", "rm", "-f", name], check=False, capture_output=True)


def row(name: str, what: str, low: float, high: float, real: float | None) -> str:
    if real is None:
        return f"{name:28} {what:8} {low:12.2f} {high:12.2f} {'not said':>12}"
    inside = "inside" if low * 0.98 <= real <= high * 1.02 else "OUTSIDE"
    return f"{name:28} {what:8} {low:12.2f} {high:12.2f} {real:12.2f} {inside}"


def chosen(paths: list[Path], room: int) -> dict[str, dict[str, Any]]:
    """Return the configurations to start: those given, or all full-size ones whose weights fit."""
    if paths:
        return {path.stem: json.loads(path.read_text()) for path in paths}
    known = {path.stem: yaml.safe_load(path.read_text())["config"] for path in sorted(CASES.glob("params-*.yaml"))}
    return {name: one for name, one in known.items() if size(parameters(one), "bf16").high + 4 * GIB < room}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--gpu", default="0")
    parser.add_argument("--image", default="vllm/vllm-openai:v0.32.0")
    parser.add_argument("--max-model-len", type=int, default=4096)
    args = parser.parse_args()
    seen = look()
    gpu = next((one for one in seen.gpus if one.index == args.gpu), None)
    if gpu is None:
        print(f"no NVIDIA GPU {args.gpu} here, so nothing was measured: {seen.problem or 'other GPUs only'}")
        return 0
    print(f"{gpu.name}, {gib(gpu.total)}, driver {seen.driver}, {args.image}")
    print(f"{'model':28} {'what':8} {'low':>12} {'high':>12} {'real':>12}   (GiB; tokens for tokens)")
    for name, config in chosen(args.configs, gpu.free).items():
        real = measure(config, args.image, args.gpu, args.max_model_len)
        for what, (low, high) in predicted(config, gpu.total, args.max_model_len).items():
            print(row(name, what, low, high, real.get(what)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
