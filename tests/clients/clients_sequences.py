"""Clients that cannot be installed here, as the requests they send and what they need of the answers: sequences/*.yaml."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from shapes import runs, shape

Json = dict[str, Any]
FOLDER = Path(os.environ.get("CLIENT_SEQUENCES", Path(__file__).parent / "sequences"))
KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str, "number": (int, float), "bool": bool, "list": list, "object": dict, "any": object,
}  # fmt: skip
NOTHING = object()


@dataclass(frozen=True)
class Sequence:
    """A client, where its calls are written down, and its steps as they stand in the file."""

    name: str
    client: str
    sources: list[str]
    steps: list[Json]


@dataclass
class Played:
    """What a sequence saw: the answers' shapes by step, and what the client could not have lived with."""

    shapes: Json = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def load(folder: Path = FOLDER) -> list[Sequence]:
    """Return all sequences of a folder; raises ValueError for what is none."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        whole = isinstance(value, dict) and {"client", "sources", "steps"} <= value.keys()
        steps = value["steps"] if whole else []
        if not steps or not all({"step", "request"} <= step.keys() for step in steps):
            raise ValueError(f"{path}: client, sources and steps are needed, and of each step `step` and `request`")
        found.append(Sequence(path.stem, value["client"], value["sources"], steps))
    return found


def play(sequence: Sequence, url: str, names: Json, *, ollama: bool = True) -> Played:
    """Send the requests in their order; `names` are what `$name` stands for, and grow by what steps `save`.

    Without `ollama`, steps that need it are left out.
    """
    known = dict(names)
    played = Played()
    quiet = {"user-agent": "", "accept-encoding": ""}
    with httpx.Client(base_url=url, timeout=60, headers=quiet, trust_env=False) as client:
        for step in sequence.steps:
            if ollama or step.get("needs") != "ollama":
                known = {**known, **_step(client, step, known, played)}
    return played


def _step(client: httpx.Client, step: Json, known: Json, played: Played) -> Json:
    asked, title = _filled(step["request"], known), step["step"]
    body = asked.get("body")
    content = body if isinstance(body, str) else json.dumps(body) if body is not None else None
    try:
        answer = client.request(asked["method"], asked["path"], content=content, headers=asked.get("headers", {}))
    except httpx.HTTPError as error:
        played.wrong.append(f"{title}: {type(error).__name__} {error}")
        return {}
    kind = answer.headers.get("content-type", "")
    parts = list(parsed(kind, answer.text))
    needs = _filled(step.get("answer", {}), known)
    status = needs.get("status", 200)
    compared = [at(part, step["only"].split("/")) for part in parts] if "only" in step else parts
    played.shapes[title] = {
        "status": answer.status_code, "kind": kind.split(";")[0], "body": runs(map(shape, compared)),
    }  # fmt: skip
    if answer.status_code != status:
        played.wrong.append(f"{title}: status {answer.status_code} instead of {status}: {answer.text[:300]}")
        return {}
    if not kind.startswith(needs.get("type", "")):
        played.wrong.append(f"{title}: {kind} instead of {needs['type']}")
    for which, places in needs.items():
        for part in chosen(which, parts, title, played):
            played.wrong += [f"{title}: {which}: {said}" for said in lacking(part, places)]
    return {name: at(chosen_one(path, parts), path.split("/")[1:]) for name, path in step.get("save", {}).items()}


def parsed(kind: str, text: str) -> Iterator[Any]:
    """Yield the values of an answer: one of JSON, the lines of NDJSON, the data of server-sent events."""
    if kind.startswith("text/event-stream"):
        for line in text.splitlines():
            if line.startswith("data: "):
                yield line[6:] if line[6:] == "[DONE]" else json.loads(line[6:])
    elif kind.startswith(("application/x-ndjson", "application/json")):
        for line in text.splitlines():
            if line.strip():
                yield json.loads(line)
    elif text:
        yield text


def chosen(which: str, parts: list[Any], title: str, played: Played) -> list[Any]:
    """Return the parts that a key of `answer` is about: first, last, every or any (at least one has all)."""
    if which not in ("first", "last", "every", "any"):
        return []
    if not parts:
        played.wrong.append(f"{title}: an empty answer")
    return {"first": parts[:1], "last": parts[-1:], "every": parts, "any": [parts]}[which]


def chosen_one(path: str, parts: list[Any]) -> Any:
    return parts[0] if path.startswith("first/") else parts[-1]


def lacking(part: Any, places: Any) -> list[str]:
    """Return what a part does not have of what is needed; a list of parts needs one that has it all."""
    if isinstance(part, list) and isinstance(places, dict):
        found = [lacking(one, places) for one in part]
        return [] if [] in found else [f"no part with {places}"]
    if not isinstance(places, dict):
        return _unlike(part, places, "the value")
    return [said for path, need in places.items() for said in _unlike(at(part, path.split("/")), need, path)]


def at(value: Any, path: list[str]) -> Any:
    """Return what is at a path: keys, numbers, `*` for every one of a list, `key=text` for the one that has it."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if step == "*":
        return [at(one, rest) for one in value] if isinstance(value, list) and value else NOTHING
    if isinstance(value, list):
        if step.isdigit():
            return at(value[int(step)], rest) if int(step) < len(value) else NOTHING
        key, _, text = step.partition("=")
        return next((at(one, rest) for one in value if isinstance(one, dict) and str(one.get(key)) == text), NOTHING)
    return at(value[step], rest) if isinstance(value, dict) and step in value else NOTHING


def _unlike(found: Any, need: Any, path: str) -> list[str]:
    """Return why a value is not what is needed: a kind of value, `absent`, `time`, `~pattern`, or the value itself."""
    if need == "absent":
        return [] if found is NOTHING else [f"{path} is there: {str(found)[:200]!r}"]
    if found is NOTHING:
        return [f"{path} is missing"]
    if "*" in path.split("/") and isinstance(found, list):
        every = (said for one in found for said in _unlike(one, need, path.replace("*", "each", 1)))
        return list(dict.fromkeys(every))
    if found == need:
        return []
    if isinstance(need, str) and need in KINDS:
        fits = isinstance(found, KINDS[need]) and not (need == "number" and isinstance(found, bool))
    elif need == "time":
        fits = _is_time(found)
    elif isinstance(need, str) and need.startswith("~"):
        fits = isinstance(found, str) and re.search(need[1:], found) is not None
    else:
        fits = False
    return [] if fits else [f"{path} is {str(found)[:200]!r}, not {need!r}"]


def _is_time(found: Any) -> bool:
    try:
        return datetime.fromisoformat(found).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _filled(value: Any, known: Json) -> Any:
    """Replace `$name` by what is known: a whole string by the value, inside a string by its text."""
    if isinstance(value, str):
        if value[:1] == "$" and value[1:] in known:
            return known[value[1:]]
        return re.sub(r"\$(\w+)", lambda hit: str(known.get(hit[1], hit[0])), value)
    if isinstance(value, dict):
        return {_filled(key, known): _filled(one, known) for key, one in value.items()}
    return [_filled(one, known) for one in value] if isinstance(value, list) else value
