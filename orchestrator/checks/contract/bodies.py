"""What stands in the bodies of answers, in Ollama's and OpenAI's dialect alike. Pure; a wrong form raises.

Raised are KeyError, IndexError, TypeError, AttributeError and ValueError: `readers.fact_of` makes a fact of them.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from orchestrator.checks.contract.ask import Reply


def form_of(reply: Reply) -> str:
    """Return the form of an error: whose it is, by its fields."""
    try:
        answer = json.loads(reply.body)
    except ValueError:
        return "text" if reply.body else "empty"
    if not isinstance(answer, dict):
        return "text"
    error = answer.get("error")
    if isinstance(error, dict):
        return "OpenAI" if {"message", "type"} <= error.keys() else "an object"
    if isinstance(error, str):
        return "Ollama"
    return "detail" if "detail" in answer else "other"


def logprob_list(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens with their log-probabilities, from either dialect."""
    own = answer.get("logprobs")
    if own is None:
        own = (answer["choices"][0].get("logprobs") or {}).get("content")
    return [one for one in own or () if isinstance(one, dict)]


def read(reply: Reply) -> dict[str, Any]:
    answer = json.loads(reply.body)
    if not isinstance(answer, dict):
        raise TypeError("no object")
    return answer


def data_of(reply: Reply) -> list[str]:
    """Return the data of an event stream, `[DONE]` too."""
    return [line[5:].strip() for line in reply.body.split("\n") if line.startswith("data:")]


def events(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(one) for one in data_of(reply) if one and one != "[DONE]"]


def parts(reply: Reply) -> tuple[list[dict[str, Any]], str | None]:
    """Return the message of an answer, or its deltas, and why it ended."""
    if reply.kind != "text/event-stream":
        answer = read(reply)
        return [message(answer)], finish(answer)
    choices = [choice for event in events(reply) for choice in event.get("choices") or ()]
    reasons = [str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason")]
    return [choice["delta"] for choice in choices], reasons[-1] if reasons else None


def message(answer: dict[str, Any]) -> dict[str, Any]:
    said = answer.get("message") if "message" in answer else answer["choices"][0].get("message")
    return said if isinstance(said, dict) else {}


def text_of(answer: dict[str, Any]) -> str:
    if "response" in answer:
        return str(answer["response"])
    if "choices" in answer and "text" in answer["choices"][0]:
        return str(answer["choices"][0]["text"])
    return str(message(answer).get("content") or "")


def line_text(line: dict[str, Any]) -> str:
    said = line.get("message") or {}
    return str(line.get("response") or said.get("content") or said.get("thinking") or line.get("thinking") or "")


def finish(answer: dict[str, Any]) -> str | None:
    reason = answer.get("done_reason") or (answer.get("choices") or [{}])[0].get("finish_reason")
    return str(reason) if reason else None


def made(answer: dict[str, Any]) -> int | None:
    return answer.get("eval_count", (answer.get("usage") or {}).get("completion_tokens"))


def prompt_tokens(answer: dict[str, Any]) -> int | None:
    return answer.get("prompt_eval_count", (answer.get("usage") or {}).get("prompt_tokens"))


def vector(given: Any) -> list[float]:
    if isinstance(given, str):
        data = base64.b64decode(given)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return [float(one) for one in given]
