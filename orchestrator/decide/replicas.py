"""How many copies of an engine: more than one where a single one would make measured users wait and GPUs are free."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.vram import Share, gib
from orchestrator.facts import Facts

_UNKNOWN = 2048     # tokens of a request where nothing tells
_MOST = 16


@dataclass(frozen=True, slots=True)
class Load:
    """What users do. `peak`: requests at once, None unknown; `word`: measured or stated; `tokens` of one request."""

    peak: float | None = None
    word: str = "measured"
    tokens: int | None = None


def load_of(facts: Facts) -> Load:
    """Return the load that the evidence shows; the length of a request is its 99th percentile, prompt and answer."""
    traffic = facts.traffic
    prompt, answer = traffic.prompt_tokens.p99, traffic.output_tokens.p99
    tokens = math.ceil(prompt + answer) if prompt and answer else None
    peak = traffic.concurrency.peak
    known = peak is not None and math.isfinite(peak) and peak > 0
    return Load(peak if known else None, "stated" if traffic.source == "stated" else "measured", tokens)


def held(share: Share, load: Load) -> tuple[int, str]:
    """Return how many requests one engine answers at once, and what bounds it."""
    ask = share.ask
    each = min(load.tokens or _UNKNOWN, ask.max_model_len)
    token = ask.one_sequence() / ask.max_model_len
    most = math.floor(share.kv / (each * token)) if token else ask.max_num_seqs
    if most >= ask.max_num_seqs:
        return ask.max_num_seqs, f"max_num_seqs {ask.max_num_seqs}"
    length = f"{each} tokens, as 99 % of requests are" if load.tokens else f"{each} tokens (assumed: no log tells)"
    return max(1, most), f"a cache of {gib(share.kv)} at {length}"


def copies(share: Share, load: Load, free: int) -> tuple[int, str]:
    """Return how many copies of a one-GPU engine there should be with `free` more equal GPUs, and why; 1: no more."""
    if load.peak is None or free < 1 or share.ask.task == "embed" or share.ask.tensor_parallel > 1:
        return 1, ""
    one, bound = held(share, load)
    wanted = math.ceil(load.peak / one)
    count = min(wanted, free + 1, _MOST)
    if count < 2:
        return 1, ""
    why = f"{count} replicas: {load.peak:g} at once ({load.word}), and one engine answers {one} ({bound})"
    short = f"; {wanted} would be needed for all" if count < wanted else ""
    return count, f"{why}{short}; copies, not one split over them, as the model fits one GPU"
