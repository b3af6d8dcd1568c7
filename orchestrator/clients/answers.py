"""Reads chat answers, plain or streamed, after they have arrived: text, tokens, and how they ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Ending = Literal["complete", "error", "truncated"]


@dataclass
class Answer:
    """One chat answer; `stamps` are the arrival times (ns) of its token deltas.

    The delta that only announces the role is no token; an empty one may be: engines send tokens that decode to
    nothing yet. The chunk that only says why generation stopped is no token either.
    """

    status: int
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    done: bool = False
    error: str | None = None
    stamps: list[int] = field(default_factory=list)
    last_ns: int | None = None
    words: list[str] = field(default_factory=list, repr=False)      # of text and of reasoning, while a stream is read:
    thoughts: list[str] = field(default_factory=list, repr=False)   # adding each to a long text would copy it each time

    @property
    def ending(self) -> Ending:
        """Complete only when the protocol's own end came without an error before it."""
        if self.error is not None or self.status != 200:
            return "error"
        return "complete" if self.done and self.finish_reason is not None else "truncated"


def read_plain(status: int, body: bytes) -> Answer:
    """Read a whole (not streamed) answer."""
    answer = Answer(status, done=True)
    document = _object(body)
    if document is None:
        answer.error = f"not a JSON object: {body[:200].decode('utf-8', 'replace')}"
        return answer
    _note_common(answer, document)
    for choice in _choices(document):
        message = _part(choice, "message")
        answer.text += _text(message, "content")
        answer.reasoning += _text(message, "reasoning") or _text(message, "reasoning_content")
        answer.finish_reason = _text(choice, "finish_reason") or answer.finish_reason
    return answer


def read_stream(status: int, pieces: Iterable[tuple[int, bytes]]) -> Answer:
    """Read a streamed answer from its (stamp in ns, bytes) pieces; each event takes the stamp of its last byte."""
    answer = Answer(status)
    if status != 200:
        answer.error = read_plain(status, b"".join(data for _, data in pieces)).error or f"status {status}"
        return answer
    for stamp, data in _events(pieces):
        if data == b"[DONE]":
            answer.done = True
        else:
            _note_event(answer, stamp, data)
    answer.text, answer.reasoning = "".join(answer.words), "".join(answer.thoughts)
    answer.words.clear()
    answer.thoughts.clear()
    return answer


def _events(pieces: Iterable[tuple[int, bytes]]) -> Iterable[tuple[int, bytes]]:
    rest = b""
    for stamp, data in pieces:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield stamp, line[5:].strip()


def _note_event(answer: Answer, stamp: int, data: bytes) -> None:
    event = _object(data)
    if event is None:
        answer.error = answer.error or f"not a JSON object: {data[:200].decode('utf-8', 'replace')}"
        return
    _note_common(answer, event)
    for choice in _choices(event):
        _note_delta(answer, stamp, choice)


def _note_delta(answer: Answer, stamp: int, choice: dict[str, Any]) -> None:
    delta = _part(choice, "delta")
    text = _text(delta, "content")
    reasoning = _text(delta, "reasoning") or _text(delta, "reasoning_content")
    answer.words.append(text)
    answer.thoughts.append(reasoning)
    answer.finish_reason = _text(choice, "finish_reason") or answer.finish_reason
    filled = bool(text or reasoning or delta.get("tool_calls"))
    announces = "role" in delta and not filled
    if announces:
        return
    answer.last_ns = stamp
    if filled or not choice.get("finish_reason"):
        answer.stamps.append(stamp)


def _note_common(answer: Answer, document: dict[str, Any]) -> None:
    if "error" in document:
        answer.error = answer.error or _error(document["error"])
    answer.model = _text(document, "model") or answer.model
    usage = document.get("usage")
    if isinstance(usage, dict):
        answer.prompt_tokens = _count(usage.get("prompt_tokens"), answer.prompt_tokens)
        answer.output_tokens = _count(usage.get("completion_tokens"), answer.output_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            answer.cached_tokens = _count(details.get("cached_tokens"), answer.cached_tokens)


def _count(value: Any, before: int | None) -> int | None:
    """A count of tokens; whatever else a server writes there is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else before


def _error(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _part(holder: dict[str, Any], name: str) -> dict[str, Any]:
    part = holder.get(name)
    return part if isinstance(part, dict) else {}


def _text(holder: dict[str, Any], name: str) -> str:
    """A text, empty where a server writes something else there."""
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _choices(document: dict[str, Any]) -> list[dict[str, Any]]:
    choices = document.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
