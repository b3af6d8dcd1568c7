"""Answers of /v1/responses: numbered events with sorted keys, or one object, as Ollama writes them."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from orchestrator.adapter.pieces import Call, Tally
from orchestrator.adapter.refusals import v1_error
from orchestrator.adapter.wire import JSON, dumps


class ResponsesAnswer:
    """Renders an answer to `request`, which is echoed in it. `created` is in epoch seconds."""

    stream_type = "text/event-stream"
    whole_type = "application/json"

    def __init__(self, name: str, request: JSON, created: int) -> None:
        self._name = name
        self._request = request
        self._created = created
        self._id = f"resp_{_number()}"
        self._item = f"msg_{_number()}"
        self._thought_item = f"rs_{_number()}"
        self._sequence = 0
        self._output = 0  # the index of the item that is open
        self._said: list[str] = []
        self._thought: list[str] = []
        self._thinking = False
        self._calls: list[JSON] = []
        self._begun = False

    def piece(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str:
        """Return the events of one increment; text beside calls is not told, as Ollama does not."""
        del logprobs
        text = self._begin()
        if thinking:
            text += self._think(thinking)
        if content and not self._calls and not calls:
            text += self._say(content)
        if calls:
            text += self._stop_thinking()
        return text + "".join(self._call(call, at) for at, call in enumerate(calls))

    def word(self, said: str) -> str | None:
        """Return the event of an increment that is content alone, inside a message that is open."""
        if not self._said or self._calls or self._thinking:
            return None
        self._said.append(json.loads(f'"{said}"') if "\\" in said else said)
        kind = "response.output_text.delta"
        text = (
            f'event: {kind}\ndata: {{"content_index":0,"delta":"{said}","item_id":"{self._item}","logprobs":[],'
            f'"output_index":{self._output},"sequence_number":{self._sequence},"type":"{kind}"}}\n\n'
        )
        self._sequence += 1
        return text

    def end(self, tally: Tally) -> str:
        """Return the end of what is open and the whole response."""
        text = self._begin() + self._stop_thinking()
        if self._said and not self._calls:
            said = "".join(self._said)
            where = {"item_id": self._item, "output_index": self._output, "content_index": 0}
            text += self._event("response.output_text.done", text=said, logprobs=[], **where)
            text += self._event("response.content_part.done", part=_part(said), **where)
            text += self._event("response.output_item.done", item=self._message(said), output_index=self._output)
        final = self._response("completed", self._items(), usage(tally))
        return text + self._event("response.completed", response=final)

    def whole(self, tally: Tally) -> str:
        """Return the single object of an answer that is not streamed."""
        output: list[JSON] = []
        if tally.thinking:
            output.append(_reasoning(f"rs_{self._id}", tally.thinking))
        if tally.calls:
            output += [_called(call, f"fc_{self._id}_{at}") for at, call in enumerate(tally.calls)]
        else:
            output.append(self._message(tally.content))
        answer = self._response("completed", output, usage(tally))
        return dumps(answer) + "\n"

    def error(self, message: str) -> str:
        """Return the event that ends a stream whose engine failed."""
        return f"event: error\ndata: {dumps(v1_error(500, message))}\n\n"

    def _begin(self) -> str:
        if self._begun:
            return ""
        self._begun = True
        kinds = ("response.created", "response.in_progress")
        return "".join(self._event(kind, response=self._response("in_progress", [], None)) for kind in kinds)

    def _think(self, thinking: str) -> str:
        text = ""
        if not self._thinking:
            self._thinking = True
            item = {"id": self._thought_item, "type": "reasoning", "summary": []}
            text = self._event("response.output_item.added", item=item, output_index=self._output)
        self._thought.append(thinking)
        where = {"item_id": self._thought_item, "output_index": self._output, "summary_index": 0}
        return text + self._event("response.reasoning_summary_text.delta", delta=thinking, **where)

    def _stop_thinking(self) -> str:
        if not self._thinking:
            return ""
        self._thinking = False
        thought = "".join(self._thought)
        where = {"item_id": self._thought_item, "output_index": self._output, "summary_index": 0}
        text = self._event("response.reasoning_summary_text.done", text=thought, **where)
        item = _reasoning(self._thought_item, thought)
        text += self._event("response.output_item.done", item=item, output_index=self._output)
        self._output += 1
        return text

    def _say(self, content: str) -> str:
        text = self._stop_thinking()
        where = {"item_id": self._item, "output_index": self._output, "content_index": 0}
        if not self._said:
            opening = {**self._message(""), "status": "in_progress", "content": []}
            text += self._event("response.output_item.added", item=opening, output_index=self._output)
            text += self._event("response.content_part.added", part=_part(""), **where)
        self._said.append(content)
        return text + self._event("response.output_text.delta", delta=content, logprobs=[], **where)

    def _call(self, call: Call, at: int) -> str:
        item = _called(call, f"fc_{_number()}_{at}")
        where = {"item_id": item["id"], "output_index": self._output + len(self._calls)}
        opening = {**item, "status": "in_progress", "arguments": ""}
        self._calls.append(item)
        text = self._event("response.output_item.added", item=opening, output_index=where["output_index"])
        text += self._event("response.function_call_arguments.delta", delta=item["arguments"], **where)
        text += self._event("response.function_call_arguments.done", arguments=item["arguments"], **where)
        return text + self._event("response.output_item.done", item=item, output_index=where["output_index"])

    def _items(self) -> list[JSON] | None:
        items = [_reasoning(self._thought_item, "".join(self._thought))] if self._thought else []
        if self._calls:
            items += self._calls
        elif self._said:
            items.append(self._message("".join(self._said)))
        return items or None

    def _message(self, said: str) -> JSON:
        return {"id": self._item, "type": "message", "status": "completed", "role": "assistant",
                "content": [_part(said)]}  # fmt: skip

    def _event(self, kind: str, **fields: Any) -> str:
        body = _sorted({**fields, "sequence_number": self._sequence, "type": kind})
        self._sequence += 1
        return f"event: {kind}\ndata: {dumps(body)}\n\n"

    def _response(self, status: str, output: list[JSON] | None, counts: JSON | None) -> JSON:
        """Return the response object with what the request said echoed in it."""
        request = self._request
        completed = int(time.time()) if status == "completed" else None
        return {
            "id": self._id, "object": "response", "created_at": self._created, "completed_at": completed,
            "status": status, "incomplete_details": None, "model": self._name, "previous_response_id": None,
            "instructions": request.get("instructions") or None, "output": output, "error": None,
            "tools": [_tool(tool or {}) for tool in request.get("tools") or []], "tool_choice": "auto",
            "truncation": request.get("truncation") or "disabled", "parallel_tool_calls": True,
            "text": {"format": _format(request.get("text"))}, "top_p": _given(request, "top_p"),
            "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0,
            "temperature": _given(request, "temperature"), "reasoning": self._reasoning(),
            "usage": counts, "max_output_tokens": request.get("max_output_tokens"), "max_tool_calls": None,
            "store": False, "background": bool(request.get("background")), "service_tier": "default", "metadata": {},
            "safety_identifier": None, "prompt_cache_key": None,
        }  # fmt: skip

    def _reasoning(self) -> JSON | None:
        asked = self._request.get("reasoning")
        told = {key: asked[key] for key in ("effort", "summary") if asked.get(key)} if isinstance(asked, dict) else {}
        if told and self._begun:  # a stream names both
            return {"effort": None, "summary": None, **told}
        return told or None


def usage(tally: Tally) -> JSON:
    """Return the token counts in this API's form; Ollama never says what was cached or thought."""
    prompt, generated = tally.prompt_tokens, tally.tokens
    return {
        "input_tokens": prompt,
        "output_tokens": generated,
        "total_tokens": prompt + generated,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _number() -> int:
    return random.randrange(999_999)  # noqa: S311  (an id, no secret)


def _given(request: JSON, name: str) -> float:
    value = request.get(name)
    return 1 if value is None else int(value) if float(value).is_integer() else value


def _part(said: str) -> JSON:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def _reasoning(identity: str, thought: str) -> JSON:
    summary = [{"type": "summary_text", "text": thought}]
    return {"id": identity, "type": "reasoning", "summary": summary, "encrypted_content": thought}


def _called(call: Call, identity: str) -> JSON:
    return {"id": identity, "type": "function_call", "status": "completed", "call_id": call.id,
            "name": call.name, "arguments": dumps(call.as_object())}  # fmt: skip


def _tool(tool: JSON) -> JSON:
    parameters = tool.get("parameters")
    return {
        "type": tool.get("type") or "", "name": tool.get("name") or "", "description": tool.get("description"),
        "strict": tool.get("strict"),
        "parameters": _sorted(parameters) if isinstance(parameters, dict) else None,
    }  # fmt: skip


def _format(text: Any) -> JSON:
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict):
        return {"type": "text"}
    kept = {key: wanted[key] for key in ("name", "schema", "strict") if wanted.get(key) not in (None, "")}
    return {"type": wanted.get("type") or "", **{key: _Kept(v) if key == "schema" else v for key, v in kept.items()}}


class _Kept(dict[str, Any]):
    """A schema: it keeps its order where all else is sorted, because Ollama passes its text on."""

    def __init__(self, schema: Any) -> None:
        super().__init__(schema if isinstance(schema, dict) else {})


def _sorted(value: Any) -> Any:
    """Return a value with the keys in the order of Go's maps."""
    if isinstance(value, _Kept):
        return value
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value
