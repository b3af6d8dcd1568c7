"""Answers of Ollama's native API: NDJSON lines, or one object."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.adapter.pieces import Call, Tally
from orchestrator.adapter.wire import JSON, dumps, timestamp

Clock = Callable[[], int]


class NativeAnswer:
    """Renders /api/chat (`chat`) or /api/generate; `clock` gives nanoseconds since the epoch."""

    stream_type = "application/x-ndjson"
    whole_type = "application/json; charset=utf-8"

    def __init__(self, name: str, *, chat: bool, clock: Clock, context: bool = False) -> None:
        self._model = dumps(name)
        self._chat = chat
        self._clock = clock
        self._context = context
        self._before = f'{{"model":{self._model},"created_at":"'
        self._between = '","message":{"role":"assistant","content":"' if chat else '","response":"'
        self._after = '"},"done":false}\n' if chat else '","done":false}\n'

    def piece(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str:
        """Return the line of one increment."""
        more = f',"logprobs":{dumps(_logprobs(logprobs))}' if logprobs else ""
        return self._line(content, thinking, calls, f'"done":false{more}')

    def word(self, said: str) -> str:
        """Return the line of an increment that is content alone, given as JSON writes it."""
        return f"{self._before}{timestamp(self._clock())}{self._between}{said}{self._after}"

    def end(self, tally: Tally) -> str:
        """Return the last line: why it ended, how much and how long."""
        return self._line("", "", [], self._closing(tally, []))

    def whole(self, tally: Tally) -> str:
        """Return the single object of an answer that is not streamed."""
        closing = self._closing(tally, tally.logprobs)
        return self._line(tally.content, tally.thinking, tally.calls, closing)[:-1]

    def error(self, message: str) -> str:
        """Return the line that ends a stream whose engine failed."""
        return dumps({"error": message}) + "\n"

    def _line(self, content: str, thinking: str, calls: list[Call], closing: str) -> str:
        said = self._said(content, thinking, calls)
        tail = closing if self._chat or not calls else f'{closing},"tool_calls":{dumps(_calls(calls))}'
        return f'{{"model":{self._model},"created_at":"{timestamp(self._clock())}",{said},{tail}}}\n'

    def _said(self, content: str, thinking: str, calls: list[Call]) -> str:
        thought = f',"thinking":{dumps(thinking)}' if thinking else ""
        if not self._chat:
            return f'"response":{dumps(content)}{thought}'
        called = f',"tool_calls":{dumps(_calls(calls))}' if calls else ""
        return f'"message":{{"role":"assistant","content":{dumps(content)}{thought}{called}}}'

    def _closing(self, tally: Tally, logprobs: list[JSON]) -> str:
        fields: JSON = {"done": True, "done_reason": done_reason(tally.finish)}
        if self._context and tally.prompt_ids:
            fields["context"] = tally.prompt_ids + tally.token_ids
        measures = {name: value for name, value in _measures(tally).items() if value}
        shown = {"logprobs": _logprobs(logprobs)} if logprobs else {}
        fields |= {**shown, **measures} if self._chat else {**measures, **shown}
        return dumps(fields)[1:-1]


def done_reason(finish: str | None) -> str:
    """Return Ollama's word: everything that is no limit is a stop, tool calls too."""
    return "length" if finish == "length" else "stop"


def _measures(tally: Tally) -> JSON:
    """Return Ollama's measures in ns: loading is the wait for the engine to accept the request."""
    first = tally.first or tally.last
    return {
        "total_duration": tally.last - tally.started,
        "load_duration": tally.sent - tally.started,
        "prompt_eval_count": tally.prompt_tokens,
        "prompt_eval_duration": max(first - tally.sent, 1),
        "eval_count": tally.tokens,
        "eval_duration": max(tally.last - first, 1) if tally.tokens else 0,
    }


def _calls(calls: list[Call]) -> list[JSON]:
    return [
        {"id": call.id, "function": {"index": call.index, "name": call.name, "arguments": call.as_object()}}
        for call in calls
    ]


def _logprobs(entries: list[JSON]) -> list[JSON]:
    """Return token, logprob, bytes and the alternatives; an empty list of alternatives is left out."""
    kept = ("token", "logprob", "bytes")
    result = []
    for entry in entries:
        one: JSON = {key: entry[key] for key in kept if entry.get(key) not in (None, [])}
        if tops := entry.get("top_logprobs"):
            one["top_logprobs"] = [{key: top[key] for key in kept if top.get(key) not in (None, [])} for top in tops]
        result.append(one)
    return result
