"""Speculative decoding and chunked prefill as named keys of the spec: their flags, and what they cost of the GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide.catalog import load
from orchestrator.decide.vram import MIB, Ask, gib

NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
_NO_WEIGHTS = ("ngram", "ngram_gpu", "suffix")
_HEADS = ("eagle", "eagle3", "medusa", "mlp_speculator", "mtp")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a key takes of each GPU, in bytes; None where nobody can say before the engine has started."""

    bytes: int | None
    text: str


def named(speculative: Mapping[str, Any] | str | None = None, *, chunked_prefill: bool | None = None) -> list[str]:
    """Return the flags of the named keys; `speculative` is the mapping of --speculative-config, or `ngram`."""
    flags: list[str] = []
    if speculative:
        config = NGRAM if speculative == "ngram" else {"method": speculative} if isinstance(speculative, str) \
            else dict(speculative)  # fmt: skip
        flags += ["--speculative-config", json.dumps(config, separators=(",", ":"))]
    if chunked_prefill is not None:
        flags.append("--enable-chunked-prefill" if chunked_prefill else "--no-enable-chunked-prefill")
    return flags


def speculative_cost(config: Mapping[str, Any] | str, target: Ask) -> Cost:
    """Return what speculative decoding takes beside the target model, which keeps its own share."""
    said = {"method": config} if isinstance(config, str) else dict(config)
    tokens = int(said.get("num_speculative_tokens") or 4)
    method = str(said.get("method") or ("draft_model" if said.get("model") else "ngram"))
    verify = target.max_num_seqs * tokens * (target.numbers.vocab or 128_000) * 4
    if method in _NO_WEIGHTS:
        return Cost(verify, f"{method}: no second model; {gib(verify)} to judge {tokens} tokens of "
                    f"{target.max_num_seqs} sequences at once")  # fmt: skip
    known = load().by_repo(str(said.get("model", "")))
    ranks = int(said.get("draft_tensor_parallel_size") or target.tensor_parallel)
    if known and method not in _HEADS:
        draft = Ask("draft", known[0].numbers, known[1], max_model_len=target.max_model_len,
                    max_num_seqs=target.max_num_seqs, tensor_parallel=ranks)  # fmt: skip
        cache = draft.one_sequence()
        whole = draft.weights() + cache + verify
        return Cost(whole, f"draft model {said['model']}: weights {gib(draft.weights())}, at least {gib(cache)} of KV "
                    f"cache for one full request, {gib(verify)} to judge the drafts")  # fmt: skip
    if method in _HEADS:
        head = _head(target)
        return Cost(head + verify, f"{method}: about {gib(head)} for a head of one layer with its own vocabulary, "
                    f"{gib(verify)} to judge the drafts")  # fmt: skip
    return Cost(None, f"{method} with {said.get('model', 'no model')}: not in the catalogue, so its size is unknown; "
                "leave room for its weights and as many layers of KV cache as it has")  # fmt: skip


def _head(target: Ask) -> int:
    hidden, vocab = target.numbers.hidden or 4096, target.numbers.vocab or 128_000
    wide = target.numbers.intermediate or 4 * hidden
    return (2 * hidden * vocab + 4 * hidden * hidden + 3 * hidden * wide + 2 * hidden * hidden) * 2


def chunked_prefill_cost(target: Ask, total: int, *, enabled: bool) -> Cost:
    """Return what the choice adds to the activation peak on a GPU with `total` bytes, against vLLM's default (on)."""
    if enabled:
        return Cost(0, "chunked prefill: nothing more, it is vLLM's default; long prompts share their steps")
    numbers = target.numbers
    whole = Ask(target.name, numbers, target.scheme, target.task, target.max_model_len, target.max_num_seqs,
                max(target.max_model_len, target.batched_tokens or 0), target.tensor_parallel)  # fmt: skip
    more = max(0, whole.activations(total) - target.activations(total))
    return Cost(more, f"without chunked prefill a prompt of {target.max_model_len} tokens goes through at once: "
                f"{gib(more) if more >= 64 * MIB else 'hardly'} more for activations, and --max-num-batched-tokens "
                f"must be at least {target.max_model_len}")  # fmt: skip
