"""What speculative decoding and a step without chunked prefill take of a GPU beside the model itself.

A draft model shares the target's cache, so that each token costs both models' bytes. The heads of EAGLE, MTP and
Medusa are read with the weights: before that their size is a range, and its large end is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.decide.catalog import Catalog, load
from orchestrator.decide.confirm import files, measured
from orchestrator.decide.engine_memory import MIB, Ask, Part, gib
from orchestrator.decide.shaping import shape_for
from orchestrator.facts import HubFact

_NO_WEIGHTS = ("ngram", "ngram_gpu", "suffix")
_LAYER_HEADS = ("eagle", "eagle3")          # one decoder layer that reads the target's own states
_VOCAB_HEADS = ("medusa", "mlp_speculator")     # one head with a vocabulary per drafted token
_HEADS = ("mtp", *_LAYER_HEADS, *_VOCAB_HEADS)
_TOKENS = 4         # where the configuration names no number


def method(config: Mapping[str, Any]) -> str:
    """Return the method of a --speculative-config as vLLM works it out: what is named, else by the model's name."""
    said = str(config.get("method") or "").lower()
    model = str(config.get("model") or "").lower()
    if said:
        return "mtp" if said.endswith("_mtp") else said
    if not model or model in ("ngram", "[ngram]"):
        return "ngram"
    return next((one for one in ("eagle3", "eagle", "medusa") if one in model), "draft_model")


def speculative_cost(
    config: Mapping[str, Any] | str, target: Ask, catalog: Catalog | None = None, hub: Iterable[HubFact] = ()
) -> tuple[Part | None, str]:
    """Return what it takes of each GPU beside the target; None, and why, where nobody can say before the start.

    `hub`: what was seen of repositories, the draft's among them.
    """
    said = {"method": config} if isinstance(config, str) else dict(config)
    how, tokens = method(said), _count(said.get("num_speculative_tokens"))
    judged = target.max_num_seqs * tokens * (target.numbers.vocab or 128_000) * 4
    judging = f"{_size(judged)} to judge {tokens} tokens of {target.max_num_seqs} sequences at once"
    if how in _NO_WEIGHTS:
        return Part("drafts", judged, f"speculative decoding ({how}): no second model, {judging}"), ""
    seen = tuple(hub)
    if how in _HEADS:
        return _head(how, tokens, target, _read_size(str(said.get("model") or ""), seen), (judged, judging)), ""
    ranks = _count(said.get("draft_tensor_parallel_size"), target.tensor_parallel)
    draft = _draft(str(said.get("model") or ""), said, replace(target, tensor_parallel=ranks), catalog or load(), seen)
    if draft is None:
        return None, (f"speculative decoding ({how}): the size of {said.get('model', 'its draft model')} is not known; "
                      "leave room for its weights and for its layers of KV cache")  # fmt: skip
    weights, token = draft.weights(), draft.kv_token()
    text = (f"speculative decoding with {said['model']}: weights {gib(weights)}, {_size(token)} of KV cache more per "
            f"token, {judging}")  # fmt: skip
    return Part("drafts", weights + judged, text, token), ""


def _draft(repo: str, said: Mapping[str, Any], target: Ask, catalog: Catalog, hub: tuple[HubFact, ...]) -> Ask | None:
    numbers, scheme, size = measured(repo, catalog, (), hub)
    if not numbers.params_b and not size:
        return None
    return Ask(
        "draft", numbers, str(said.get("quantization") or scheme), max_model_len=target.max_model_len,
        max_num_seqs=target.max_num_seqs, batched_tokens=target.batched_tokens,
        tensor_parallel=target.tensor_parallel, kv_dtype=target.kv_dtype, shape=shape_for(repo, catalog, (), hub),
        files=None if said.get("quantization") else size,
    )  # fmt: skip


def _read_size(repo: str, hub: tuple[HubFact, ...]) -> int | None:
    return next((size for one in hub if repo and one.repo == repo and (size := files(one))), None)


def _head(how: str, tokens: int, target: Ask, read: int | None, judge: tuple[int, str]) -> Part:
    """Return what the heads of a method take: as large as their repository where that was seen, else a range."""
    judged, judging = judge
    token = 0 if how in _VOCAB_HEADS else _layer_token(target)
    more = f"{_size(token)} of KV cache more per token, {judging}" if token else judging
    if read is not None:
        size = math.ceil(read / target.tensor_parallel)
        return Part("drafts", size + judged, f"speculative decoding ({how}): {gib(size)} of weights, {more}", token)
    if how in _VOCAB_HEADS:
        most, least, what = _vocab_heads(target, tokens), 0, f"{tokens} heads, which are not known before they are read"
    else:
        most, least = _own_layer(target) if how == "mtp" else _layer_head(target)
        what = "one layer, which is not known before it is read"
    text = f"speculative decoding ({how}): {gib(least)} to {gib(most)} for {what}; {more}"
    return Part("drafts", most + judged, text, token, least + judged)


def problems(config: Mapping[str, Any]) -> list[str]:
    """Return why vLLM would not take a --speculative-config."""
    known = {key: config.get(key) for key in ("method", "model") if config.get(key)}
    if not known:
        return ["speculative: name a method (ngram, eagle3, mtp, ...) or the model that drafts"]
    odd = [f"speculative: {key} should be text" for key, value in known.items() if not isinstance(value, str)]
    if odd:
        return odd
    tokens, how = config.get("num_speculative_tokens"), method(config)
    if tokens is None:
        needed = how in ("ngram", "ngram_gpu", "draft_model")
        return [f"speculative: {how} needs num_speculative_tokens, such as 4"] if needed else []
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        return [f"speculative: num_speculative_tokens should be a whole number above 0 (is {tokens!r})"]
    if how == "draft_model" and not config.get("model"):
        return ["speculative: draft_model needs a model"]
    return []


def drafted(said: Mapping[str, Any]) -> int:
    """Return how many tokens are drafted at once."""
    return _count(said.get("num_speculative_tokens"))


def _count(value: Any, default: int = _TOKENS) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _size(size: int) -> str:
    return gib(size) if size >= 64 * MIB else f"{size / MIB:.0f} MiB" if size >= MIB else f"{size / 1024:.0f} KiB"


def _layer_head(target: Ask) -> tuple[int, int]:
    """Return the largest and smallest size of an EAGLE head: a layer, with or without a vocabulary of its own."""
    n = target.numbers
    hidden, vocab = n.hidden or 4096, n.vocab or 128_000
    wide = n.intermediate or 4 * hidden
    layer = 4 * hidden * hidden + 3 * hidden * wide + 3 * hidden * hidden
    ranks = target.tensor_parallel
    return math.ceil((2 * hidden * vocab + layer) * 2 / ranks), layer * 2 // ranks


def _own_layer(target: Ask) -> tuple[int, int]:
    """Return what one more layer of the target itself takes (MTP): at 16 bit, and as it is stored."""
    n = target.numbers
    hidden = n.hidden or 4096
    each = (n.params_b or 0) * 1e9 / max(1, n.layers or 32) + 2 * hidden * hidden
    own = target.weights() / max(1, n.layers or 32)
    return math.ceil(max(each * 2 / target.tensor_parallel, own)), math.floor(own)


def _layer_token(target: Ask) -> int:
    own = replace(target, parts=()).kv_token()
    return math.ceil(own / max(1, target.numbers.layers or 32))


def _vocab_heads(target: Ask, tokens: int) -> int:
    hidden, vocab = target.numbers.hidden or 4096, target.numbers.vocab or 128_000
    return math.ceil(tokens * (hidden * hidden + hidden * vocab) * 2 / target.tensor_parallel)


def step_notes(target: Ask, total: int, said: int | None) -> tuple[str, ...]:
    """Return what the size of one step does to the activations, where it is not vLLM's default.

    `said`: max_num_batched_tokens, where somebody set it; `total`: bytes of the GPU.
    """
    plain = replace(target, batched_tokens=None, chunked=True)
    usual, now = plain.activations(total), target.activations(total)
    if target.chunked and said is None:
        return ()
    more = now - usual
    change = f"{_size(abs(more))} {'more' if more >= 0 else 'less'} for activations" if abs(more) >= MIB else \
        "activations as usual"  # fmt: skip
    why = f"max_num_batched_tokens {said}" if target.chunked else "without chunked prefill"
    return (f"{why}: {target.step_tokens(total)} tokens a step instead of {plain.step_tokens(total)}, {change}",)


def refusals(name: str, target: Ask, said: int | None) -> list[str]:
    """Return why vLLM would not start with steps of this size (0.32, config/scheduler.py)."""
    if said is None:
        return []
    found = []
    if not target.chunked and said < target.max_model_len:
        found.append(f"engine {name}: without chunked prefill max_num_batched_tokens ({said}) must be at least "
                     f"max_model_len ({target.max_model_len})")  # fmt: skip
    if said < target.max_num_seqs:
        found.append(f"engine {name}: max_num_batched_tokens ({said}) must be at least max_num_seqs "
                     f"({target.max_num_seqs})")  # fmt: skip
    return found
