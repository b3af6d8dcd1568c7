"""What smoke parity asks of a pair of answers. Pure; every rule reads two records and names what it finds.

A `fail` is something that a caller would notice; a `note` is worth knowing and stops nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rapidfuzz import fuzz

from orchestrator.names import canonical

Mode = Literal["plain", "stream"]
# A stream of fewer tokens may well arrive in one read.
_STREAMED_TOKENS = 8


@dataclass(frozen=True)
class Record:
    """One side's answer to one prompt, as plain data; `arrivals` counts the reads that brought tokens."""

    status: int
    ending: str = "complete"
    text: str = ""
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    increments: int = 0
    arrivals: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Pair:
    """Both answers to one prompt in one mode; `params` and `expect_finish` are the prompt's."""

    prompt: str
    mode: Mode
    ollama: Record
    vllm: Record
    params: dict[str, Any] = field(default_factory=dict)
    expect_finish: str | None = None

    @property
    def similarity(self) -> float:
        """Share of the text in common, 0..1 (normalised indel distance)."""
        return float(fuzz.ratio(self.ollama.text, self.vllm.text)) / 100

    @property
    def answered(self) -> bool:
        return self.ollama.status == self.vllm.status == 200


@dataclass(frozen=True)
class Finding:
    prompt: str
    mode: str
    level: Literal["fail", "note"]
    what: str
    detail: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Terms:
    """What is demanded: names that may be echoed, and the least similarity (None: reported, not judged)."""

    model: str
    names: tuple[str, ...] = ()
    similarity: float | None = None


_Rule = Callable[[Pair, Terms], Iterator[tuple[Literal["fail", "note"], str]]]


def find(pairs: Sequence[Pair], terms: Terms) -> list[Finding]:
    """All findings over all pairs, in the order of the prompts."""
    findings = [
        Finding(pair.prompt, pair.mode, level, name, detail)
        for pair in pairs
        for name, rule in (_ALWAYS | _ANSWERED if pair.answered else _ALWAYS).items()
        for level, detail in rule(pair, terms)
    ]
    return findings + _merged(pairs) + _buffered(pairs)


def _status(pair: Pair, _: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    old, new = pair.ollama, pair.vllm
    if old.status != new.status:
        yield "fail", f"Ollama {old.status}, vLLM {new.status}: {new.error or old.error or ''}".rstrip(": ")
    elif old.status != 200:
        yield "note", f"both refuse with {old.status}: {new.error or ''}"


def _ending(pair: Pair, _: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    old, new = pair.ollama, pair.vllm
    if new.ending != "complete":
        yield "fail", f"vLLM's answer ended as {new.ending}: {new.error or 'no end of stream'}"
    if old.ending != "complete":
        yield "note", f"Ollama's own answer ended as {old.ending}: {old.error or 'no end of stream'}"


def _finish_reason(pair: Pair, terms: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    old, new = pair.ollama.finish_reason, pair.vllm.finish_reason
    if pair.expect_finish and pair.expect_finish != new:
        yield "fail", f"vLLM ended with {new}, should be {pair.expect_finish}"
    elif old != new:
        same = pair.ollama.text == pair.vllm.text
        # Other quantisations may end at another place; the same text, or the same weights, may not.
        yield "fail" if same or terms.similarity is not None else "note", f"Ollama {old}, vLLM {new}"


def _empty(pair: Pair, _: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    if pair.ollama.text and not pair.vllm.text:
        yield "fail", f"vLLM's answer is empty, Ollama's has {len(pair.ollama.text)} characters"
    elif pair.vllm.text and not pair.ollama.text:
        yield "note", f"Ollama's answer is empty, vLLM's has {len(pair.vllm.text)} characters"


def _stop_word(pair: Pair, _: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    stops = pair.params.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop in pair.vllm.text:
            yield "note" if stop in pair.ollama.text else "fail", f"vLLM's answer goes on after the stop word {stop!r}"


def _json(pair: Pair, _: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    if (pair.params.get("response_format") or {}).get("type") not in ("json_object", "json_schema"):
        return
    if pair.vllm.finish_reason == "stop" and not _is_json(pair.vllm.text):
        both = pair.ollama.finish_reason == "stop" and not _is_json(pair.ollama.text)
        yield "note" if both else "fail", f"vLLM's answer is not JSON: {pair.vllm.text[:80]!r}"


def _usage(pair: Pair, _: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    old, new = pair.ollama, pair.vllm
    if new.output_tokens is None and old.output_tokens is not None:
        yield "fail", "vLLM's answer has no usage"
    elif None not in (old.prompt_tokens, new.prompt_tokens) and old.prompt_tokens != new.prompt_tokens:
        yield "note", f"prompt tokens: Ollama {old.prompt_tokens}, vLLM {new.prompt_tokens}: another template?"


def _model(pair: Pair, terms: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    accepted = {canonical(name) for name in (terms.model, *terms.names)}
    if pair.vllm.model is None or canonical(pair.vllm.model) not in accepted:
        yield "fail", f"asked for {terms.model}, the answer says {pair.vllm.model}"


def _similar(pair: Pair, terms: Terms) -> Iterator[tuple[Literal["fail", "note"], str]]:
    if terms.similarity is not None and pair.similarity < terms.similarity:
        yield "fail", f"similarity {pair.similarity:.3f}, demanded {terms.similarity:g}"


def _merged(pairs: Sequence[Pair]) -> list[Finding]:
    """A vLLM that is short of CPU joins the tokens of a stream now and then; of most streams, it is a rule."""
    long = [p for p in pairs if p.mode == "stream" and p.answered and (p.vllm.output_tokens or 0) >= _STREAMED_TOKENS]
    merged = [pair for pair in long if pair.vllm.increments <= 1]
    level: Literal["fail", "note"] = "fail" if len(merged) * 2 > len(long) else "note"
    said = [f"{pair.vllm.output_tokens} tokens came in {pair.vllm.increments} increment" for pair in merged]
    return [Finding(p.prompt, p.mode, level, "streaming", text) for p, text in zip(merged, said, strict=True)]


def _buffered(pairs: Sequence[Pair]) -> list[Finding]:
    """One read may merge a short stream; all of them in one read each means that something in between buffers."""
    long = [p.vllm for p in pairs if p.mode == "stream" and p.vllm.increments >= _STREAMED_TOKENS]
    if not long or any(record.arrivals > 1 for record in long):
        return []
    return [Finding("*", "stream", "fail", "buffered", f"each of {len(long)} streams arrived in one piece")]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


_ALWAYS: dict[str, _Rule] = {"status": _status}
_ANSWERED: dict[str, _Rule] = {
    "ending": _ending,
    "finish_reason": _finish_reason,
    "empty": _empty,
    "stop": _stop_word,
    "json": _json,
    "usage": _usage,
    "model": _model,
    "similarity": _similar,
}
