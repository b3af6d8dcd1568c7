"""Answers of /v1/messages: named events in Ollama's order, or one object."""

from __future__ import annotations

import secrets

from orchestrator.adapter.pieces import Call, Tally
from orchestrator.adapter.wire import JSON, dumps

_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip


def error(status: int, message: str) -> JSON:
    """Return the body of an error."""
    kind = _KINDS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{secrets.token_hex(12)}"}


class MessagesAnswer:
    """Renders an answer; `estimate` is the prompt's length as told before the engine has counted it."""

    stream_type = "text/event-stream"
    whole_type = "application/json"

    def __init__(self, name: str, estimate: int = 0) -> None:
        head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": name}
        self._head: JSON = head
        self._estimate = estimate
        self._open = ""  # the kind of block that is open
        self._index = 0
        self._begun = False
        self._called = False

    def piece(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str:
        """Return the events of one increment."""
        del logprobs  # no place for them here
        text = self._begin()
        if thinking:
            text += self._delta("thinking", "thinking_delta", thinking)
        if content:
            text += self._delta("text", "text_delta", content)
        return text + "".join(self._use(call) for call in calls)

    def word(self, said: str) -> str | None:
        """Return the event of an increment that is content alone, inside a block of text that is open."""
        if self._open != "text":
            return None
        return (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{self._index},'
            f'"delta":{{"type":"text_delta","text":"{said}"}}}}\n\n'
        )

    def end(self, tally: Tally) -> str:
        """Return the end of the open block, the reason and the counts."""
        text = self._begin() + self._close()
        reason = stop_reason(tally.finish, called=self._called)
        counts = {"input_tokens": tally.prompt_tokens, "output_tokens": tally.tokens}
        text += _event("message_delta", {"delta": {"stop_reason": reason}, "usage": counts})
        return text + _event("message_stop", {})

    def whole(self, tally: Tally) -> str:
        """Return the single object of an answer that is not streamed."""
        content: list[JSON] = [{"type": "thinking", "thinking": tally.thinking}] if tally.thinking else []
        if tally.content:
            content.append({"type": "text", "text": tally.content})
        content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.as_object()} for c in tally.calls]
        answer: JSON = {**self._head, "content": content or None}
        answer["stop_reason"] = stop_reason(tally.finish, called=bool(tally.calls))
        answer["usage"] = {"input_tokens": tally.prompt_tokens, "output_tokens": tally.tokens}
        return dumps(answer) + "\n"

    def error(self, message: str) -> str:
        """Return the event that ends a stream whose engine failed."""
        return _event("error", {"error": {"type": "api_error", "message": message}})

    def _begin(self) -> str:
        if self._begun:
            return ""
        self._begun = True
        usage = {"input_tokens": self._estimate, "output_tokens": 0}
        return _event("message_start", {"message": {**self._head, "content": [], "usage": usage}})

    def _delta(self, kind: str, named: str, said: str) -> str:
        text = ""
        if self._open != kind:
            text = self._close() + _event("content_block_start", self._at(content_block={"type": kind, kind: ""}))
            self._open = kind
        return text + _event("content_block_delta", self._at(delta={"type": named, kind: said}))

    def _use(self, call: Call) -> str:
        self._called = True
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": dumps(call.as_object())}
        text = self._close() + _event("content_block_start", self._at(content_block=block))
        text += _event("content_block_delta", self._at(delta=delta))
        self._open = "tool_use"
        return text + self._close()

    def _close(self) -> str:
        if not self._open:
            return ""
        text = _event("content_block_stop", self._at())
        self._open, self._index = "", self._index + 1
        return text

    def _at(self, **fields: JSON) -> JSON:
        return {"index": self._index, **fields}


def stop_reason(finish: str | None, *, called: bool) -> str:
    """Return Anthropic's word; Ollama knows no stop_sequence either."""
    if called:
        return "tool_use"
    return "max_tokens" if finish == "length" else "end_turn"


def _event(kind: str, fields: JSON) -> str:
    return f"event: {kind}\ndata: {dumps({'type': kind, **fields})}\n\n"
