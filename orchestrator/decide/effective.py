"""An engine as vLLM will really run it: the user's own flags win, so the arithmetic must count with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.decide.vllm_flags import read
from orchestrator.decide.vllm_named import read_speculative
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size(text: str) -> int:
    """Return a number of vLLM's own form: 8k is 8000, 8K is 8192; raises ValueError on anything else."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size")
    return int(float(found[1]) * _UNITS[found[2]])


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--max-model-len": ("max_model_len", size),
    "--max-num-seqs": ("max_num_seqs", size),
    "--max-num-batched-tokens": ("max_num_batched_tokens", size),
    "--gpu-memory-utilization": ("gpu_memory_utilization", float),
    "--kv-cache-memory-bytes": ("kv_cache", size),
    "--kv-cache-dtype": ("kv_cache_dtype", lambda text: "fp8" if text.startswith("fp8") else "auto"),
    "--quantization": ("quantization", str),
    "--dtype": ("dtype", str),
}


def effective(engine: Engine) -> Engine:
    """Return the engine with the values of its own flags in place of its keys; unreadable ones change nothing."""
    changed: dict[str, Any] = {}
    named: dict[str, Any] = {}
    args = [*engine.extra_args, *engine.vllm.args]
    if own := read_speculative(args):
        named["speculative"] = own
    for option in read(args).options:
        if option.key == "--enforce-eager":
            changed["enforce_eager"] = not option.word.startswith("--no-")
        if option.key == "--enable-chunked-prefill":
            named["chunked_prefill"] = not option.word.startswith("--no-")
        field = _FIELDS.get(option.key)
        if field and option.value:
            try:
                changed[field[0]] = field[1](option.value)
            except ValueError:
                continue
    if named:
        changed["vllm"] = engine.vllm.model_copy(update=named)
    return engine.model_copy(update=changed) if changed else engine


def effective_spec(spec: Spec) -> Spec:
    """Return the spec with every engine as vLLM will run it: for arithmetic, never for rendering."""
    return spec.model_copy(update={"engines": {name: effective(one) for name, one in spec.engines.items()}})
