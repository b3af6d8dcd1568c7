"""What is read off the answers to a probe: a small fact of plain JSON. Pure.

A fact is {key: value}. `supported: false` with nothing else says that a side refuses; the value "?" says that this
answer does not tell, which is no difference to anything.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.checks.contract import bodies
from orchestrator.checks.contract.ask import Reply

Fact = dict[str, Any]
Reader = Callable[..., Fact]
UNKNOWN = "?"
_LONG = 80          # characters
NO: Fact = {"supported": False}
READERS: dict[str, Reader] = {}
_CALLISH = re.compile(r"<\|?/?tool_call|\[TOOL_CALLS\]|<\|python_tag\|>|<function|\"(?:name|tool_name)\"\s*:")


def reader(read: Reader) -> Reader:
    """Register a reader under its name; an answer other than 200 is no support, whatever the reader."""
    READERS[read.__name__] = read
    return read


def fact_of(name: str, replies: Sequence[Reply], args: dict[str, Any]) -> Fact:
    """Return the fact; never raises, whatever a server sent."""
    try:
        if name != "refusal" and not all(reply.fine for reply in replies):
            return dict(NO)
        return {"supported": True, **READERS[name](replies, **args)} if name != "refusal" else READERS[name](replies)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, struct.error):
        return {"supported": True, "form": "cannot be read"}


@reader
def answered(_: Sequence[Reply]) -> Fact:
    """That it is answered at all."""
    return {}


@reader
def sse(replies: Sequence[Reply]) -> Fact:
    """Framing of an event stream, its end, its usage, and whether text came bit by bit."""
    reply = replies[0]
    data, events = bodies.data_of(reply), bodies.events(reply)
    texts = [one for event in events for choice in event.get("choices") or ()
             if (one := (choice.get("delta") or {}).get("content") or choice.get("text"))]  # fmt: skip
    thoughts = [choice["delta"]["reasoning"] for event in events for choice in event.get("choices") or ()
                if (choice.get("delta") or {}).get("reasoning")]  # fmt: skip
    usage = [event for event in events if event.get("usage")]
    finished = any(choice.get("finish_reason") for event in events for choice in event.get("choices") or ())
    return {
        "type": reply.kind, "ends": "[DONE]" if data[-1:] == ["[DONE]"] else "nothing", "finish": finished,
        "usage": "none" if not usage else "own chunk" if not usage[-1].get("choices") else "in a chunk",
        "increments": _increments([*texts, *thoughts]), "error": any("error" in event for event in events),
    }  # fmt: skip


@reader
def ndjson(replies: Sequence[Reply]) -> Fact:
    """Framing of Ollama's stream: one object a line, the last one with the counts."""
    reply = replies[0]
    lines = [json.loads(line) for line in reply.body.split("\n") if line.strip()]
    texts = [one for line in lines if (one := bodies.line_text(line))]
    last = lines[-1]
    counts = all(isinstance(last.get(key), int) for key in ("prompt_eval_count", "eval_count", "total_duration"))
    return {"type": reply.kind, "ends": "done" if last.get("done") is True else "nothing", "counts": counts,
            "reason": bool(last.get("done_reason")), "increments": _increments(texts),
            "error": any("error" in line for line in lines)}  # fmt: skip


def _increments(texts: Sequence[str]) -> str:
    """Return how text came; a busy server sends the few tokens of a short text together, which says nothing."""
    if len(texts) > 1:
        return "several"
    return "one" if sum(map(len, texts)) >= _LONG else UNKNOWN


@reader
def usage(replies: Sequence[Reply]) -> Fact:
    told = bodies.read(replies[0])["usage"]
    counts = [told.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
    whole = all(isinstance(one, int) and one >= 0 for one in counts) and counts[0] + counts[1] == counts[2]
    return {"usage": "complete" if whole else "wrong"}


@reader
def counts(replies: Sequence[Reply]) -> Fact:
    answer = bodies.read(replies[0])
    keys = ("total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")
    return {"counts": [key for key in keys if isinstance(answer.get(key), int)]}


@reader
def cut(replies: Sequence[Reply], word: str) -> Fact:
    """Whether the text ended before a stop word that had to come."""
    answer = bodies.read(replies[0])
    text = bodies.text_of(answer)
    if word in text:
        return {"cut": False}
    # Cut by the limit, or the text was not forced: nothing to say.
    return {"cut": True if bodies.finish(answer) == "stop" and "begin" in text and "end" not in text else UNKNOWN}


@reader
def limit(replies: Sequence[Reply], most: int) -> Fact:
    made = bodies.made(bodies.read(replies[0]))
    return {"kept": UNKNOWN if made is None else made <= most}


@reader
def repeats(replies: Sequence[Reply]) -> Fact:
    """Whether a seed repeats; batches change the last digits, so two equal of three are enough."""
    texts = [bodies.text_of(bodies.read(reply)) for reply in replies]
    return {"repeats": len(set(texts)) < len(texts)}


@reader
def choices(replies: Sequence[Reply]) -> Fact:
    return {"choices": len(bodies.read(replies[0])["choices"])}


@reader
def logprobs(replies: Sequence[Reply]) -> Fact:
    found = bodies.logprob_list(bodies.read(replies[0]))
    return {"given": bool(found), "rivals": max((len(one.get("top_logprobs") or ()) for one in found), default=0) >= 2}


@reader
def tool_call(replies: Sequence[Reply], name: str) -> Fact:
    """How a call of a tool comes back: as one, as text that looks like one, or not at all."""
    answer = bodies.read(replies[0])
    said = bodies.message(answer)
    found = said.get("tool_calls") or []
    if not found:
        text = str(said.get("content") or "")
        looks = _CALLISH.search(text) or re.search(rf"\b{re.escape(name)}\b\s*[({{]", text)
        whole = bodies.finish(answer) != "length"
        return {"call": "left in the text" if looks and whole else "words", "arguments": UNKNOWN}
    arguments = found[0]["function"]["arguments"]
    return {"call": "called", "arguments": "text" if isinstance(arguments, str) else "object"}


@reader
def parser(replies: Sequence[Reply], name: str) -> Fact:
    """Whether the server reads a call that is written as its own chat template writes one."""
    parts, finish = bodies.parts(replies[0])
    calls = [call for part in parts for call in part.get("tool_calls") or ()]
    names = [call["function"]["name"] for call in calls if call["function"].get("name")]
    left = "".join(str(part.get("content") or "") for part in parts)
    if names == [name] and name not in left:
        return {"call": "called"}
    # What it thinks before is free, so a limit may end it before the call.
    thought = any(part.get("reasoning") for part in parts)
    return {"call": UNKNOWN if name not in left and (thought or finish == "length") else "left in the text"}


@reader
def json_begins(replies: Sequence[Reply]) -> Fact:
    """Whether the answer begins as JSON does; how it goes on is the model's word."""
    text = bodies.text_of(bodies.read(replies[0])).strip()
    return {"begins": UNKNOWN if not text else text[0] in '{["-0123456789tfn'}


@reader
def says(replies: Sequence[Reply], text: str) -> Fact:
    answer = bodies.read(replies[0])
    if bodies.finish(answer) == "length":
        return {"says": UNKNOWN}
    return {"says": "what the schema allows" if bodies.text_of(answer).strip() == text else "something else"}


@reader
def reasoning(replies: Sequence[Reply]) -> Fact:
    """Where thoughts are: in a field of their own, between marks in the text, or nowhere."""
    answer = bodies.read(replies[0])
    said = bodies.message(answer) if "choices" in answer or "message" in answer else answer
    field = next((key for key in ("reasoning", "reasoning_content", "thinking") if said.get(key)), None)
    if field:
        return {"thoughts": f"in {field}"}
    marks = re.search(r"</?think(?:ing)?>|<\|channel\|>", bodies.text_of(answer))
    return {"thoughts": "in the text" if marks else "none"}


@reader
def grows(replies: Sequence[Reply]) -> Fact:
    """Whether a system message makes the prompt longer, by more than a few tokens."""
    without, with_it = (bodies.prompt_tokens(bodies.read(reply)) for reply in replies)
    return {"read": UNKNOWN if without is None or with_it is None else with_it > without + 8}


@reader
def templated(replies: Sequence[Reply]) -> Fact:
    """Whether a bare prompt is read as the same prompt in a conversation is."""
    plain, chat = (bodies.prompt_tokens(bodies.read(reply)) for reply in replies)
    # Ollama before 0.30 counts only what was not in its cache, so the second may be less than the first.
    return {"templated": UNKNOWN if plain is None or chat is None else plain >= chat - 1}


@reader
def embeddings(replies: Sequence[Reply]) -> Fact:
    answer = bodies.read(replies[0])
    listed = answer.get("embeddings")
    if listed is None:
        listed = [answer["embedding"]] if "embedding" in answer else [one["embedding"] for one in answer["data"]]
    vectors = [bodies.vector(one) for one in listed]
    norms = [math.sqrt(sum(x * x for x in one)) for one in vectors]
    unit = all(abs(one - 1) < 0.02 for one in norms)
    return {"count": len(vectors), "dimension": len(vectors[0]) if vectors else 0,
            "form": type(listed[0]).__name__ if listed else "none", "norm": "1" if unit else "other"}  # fmt: skip


@reader
def refusal(replies: Sequence[Reply]) -> Fact:
    """The status of a refusal and the form of its body; never its words."""
    return {"status": replies[0].status, "form": bodies.form_of(replies[0])}


@reader
def generated(replies: Sequence[Reply]) -> Fact:
    answer = bodies.read(replies[0])
    return {"response": isinstance(answer.get("response"), str), "done": answer.get("done"),
            "context": isinstance(answer.get("context"), list)}  # fmt: skip


@reader
def loads(replies: Sequence[Reply]) -> Fact:
    return {"reason": bodies.read(replies[0]).get("done_reason")}


@reader
def listed(replies: Sequence[Reply], model: str) -> Fact:
    answer = bodies.read(replies[0])
    entries = answer.get("models") if "models" in answer else answer.get("data")
    names = [str(one.get("name") or one.get("id")).lower() for one in entries or ()]
    return {"listed": any(one.removesuffix(":latest") == model.lower().removesuffix(":latest") for one in names)}


@reader
def echo(replies: Sequence[Reply], model: str) -> Fact:
    return {"echo": "as asked" if bodies.read(replies[0]).get("model") == model.upper() else "another name"}


@reader
def kind(replies: Sequence[Reply]) -> Fact:
    """The kind of object, by the field that protocols carry it in."""
    answer = bodies.read(replies[0])
    said = answer.get("output") if answer.get("object") == "response" else answer.get("content")
    return {"object": answer.get("object") or answer.get("type"), "content": isinstance(said, list),
            "usage": isinstance(answer.get("usage"), dict)}  # fmt: skip
