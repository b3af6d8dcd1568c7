"""Answers of Ollama's OpenAI-compatible API: chat completions and text completions."""

from __future__ import annotations

from orchestrator.adapter.pieces import Call, Tally
from orchestrator.adapter.refusals import v1_error
from orchestrator.adapter.wire import JSON, dumps

FINGERPRINT = "fp_ollama"
_HOLE = "\ue000hole\ue000"


class ChatAnswer:
    """Renders /v1/chat/completions with Ollama's fields in Ollama's order. `created` is in epoch seconds."""

    stream_type = "text/event-stream"
    whole_type = "application/json"

    def __init__(self, name: str, number: int, created: int, *, usage: bool) -> None:
        self._head: JSON = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": created}
        self._head |= {"model": name, "system_fingerprint": FINGERPRINT}
        self._open = dumps(self._head)[:-1]
        self._usage = usage
        self._begun = False
        self._before = f'data: {self._open},"choices":[{{"index":0,"delta":{{"content":"'
        self._after = '"},"finish_reason":null}]}\n\n'

    def piece(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str:
        """Return the event of one increment; the first carries the role."""
        role = "" if self._begun else '"role":"assistant",'
        self._begun = True
        more = f',"reasoning":{dumps(thinking)}' if thinking else ""
        if calls:
            more += f',"tool_calls":{dumps(_calls(calls))}'
        extra = f',"logprobs":{dumps({"content": logprobs})}' if logprobs else ""
        delta = f'{{{role}"content":{dumps(content)}{more}}}'
        return f'data: {self._open},"choices":[{{"index":0,"delta":{delta},"finish_reason":null{extra}}}]}}\n\n'

    def word(self, said: str) -> str | None:
        """Return the event of an increment that is content alone; the first one carries the role."""
        return f"{self._before}{said}{self._after}" if self._begun else None

    def end(self, tally: Tally) -> str:
        """Return the finish chunk, the usage when it was asked for, and the terminator."""
        reason = dumps(finish_reason(tally))
        text = f'data: {self._open},"choices":[{{"index":0,"delta":{{}},"finish_reason":{reason}}}]}}\n\n'
        if self._usage:
            text += f'data: {self._open},"choices":[],"usage":{dumps(usage(tally))}}}\n\n'
        return text + "data: [DONE]\n\n"

    def whole(self, tally: Tally) -> str:
        """Return the single object of an answer that is not streamed."""
        message: JSON = {"role": "assistant", "content": tally.content}
        if tally.thinking:
            message["reasoning"] = tally.thinking
        if tally.calls:
            message["tool_calls"] = _calls(tally.calls)
        choice: JSON = {"index": 0, "message": message, "finish_reason": finish_reason(tally)}
        if tally.logprobs:
            choice["logprobs"] = {"content": tally.logprobs}
        head = {**self._head, "object": "chat.completion"}
        return dumps({**head, "choices": [choice], "usage": usage(tally)}) + "\n"

    def error(self, message: str) -> str:
        """Return the frame that ends a stream whose engine failed; no terminator follows it."""
        return f"data: {dumps(v1_error(500, message))}\n\n"


class TextAnswer:
    """Renders /v1/completions; with usage asked for, every chunk carries one, as Ollama's do."""

    stream_type = "text/event-stream"
    whole_type = "application/json"

    def __init__(self, name: str, number: int, created: int, *, usage: bool) -> None:
        self._base: JSON = {"id": f"cmpl-{number}", "object": "text_completion", "created": created}
        self._tail: JSON = {"model": name, "system_fingerprint": FINGERPRINT}
        self._usage = usage
        self._before, self._after = self.piece(_HOLE, "", [], []).split(_HOLE, 1)

    def piece(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str:
        """Return the event of one increment; thoughts, calls and logprobs have no place here."""
        del thinking, calls, logprobs
        return self._event([{"text": content, "index": 0, "finish_reason": None}], _NOTHING)

    def word(self, said: str) -> str:
        """Return the event of an increment that is content alone, given as JSON writes it."""
        return f"{self._before}{said}{self._after}"

    def end(self, tally: Tally) -> str:
        """Return the finish chunk, the usage when it was asked for, and the terminator."""
        text = self._event([{"text": "", "index": 0, "finish_reason": finish_reason(tally)}], _NOTHING)
        if self._usage:
            text += self._event([], usage(tally))
        return text + "data: [DONE]\n\n"

    def whole(self, tally: Tally) -> str:
        """Return the single object of an answer that is not streamed."""
        return self._object(tally.content, finish_reason(tally), usage(tally))

    def loaded(self) -> str:
        """Return the answer to an empty prompt."""
        return self._object("", "load", _NOTHING)

    def error(self, message: str) -> str:
        """Return the frame that ends a stream whose engine failed; no terminator follows it."""
        return f"data: {dumps(v1_error(500, message))}\n\n"

    def _object(self, text: str, reason: str, counts: JSON) -> str:
        choice = {"text": text, "index": 0, "finish_reason": reason}
        return dumps({**self._base, **self._tail, "choices": [choice], "usage": counts}) + "\n"

    def _event(self, choices: list[JSON], counts: JSON) -> str:
        event = {**self._base, "choices": choices, **self._tail}
        if self._usage:
            event["usage"] = counts
        return f"data: {dumps(event)}\n\n"


_NOTHING: JSON = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def usage(tally: Tally) -> JSON:
    """Return the token counts in OpenAI's form."""
    prompt, generated = tally.prompt_tokens, tally.tokens
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def finish_reason(tally: Tally) -> str:
    """Return the reason; an answer that called tools says so."""
    if tally.finish == "tool_calls":
        return "tool_calls"
    return "length" if tally.finish == "length" else "stop"


def _calls(calls: list[Call]) -> list[JSON]:
    return [
        {
            "id": call.id,
            "index": call.index,
            "type": "function",
            "function": {"name": call.name, "arguments": call.as_text()},
        }
        for call in calls
    ]
