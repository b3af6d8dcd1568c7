"""Suites of the user's own: YAML or JSONL, in the form of promptfoo. What is not taken is said, with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from orchestrator.checks.answers.assertions import IGNORED, problem
from orchestrator.checks.answers.case import Case, params_problem
from orchestrator.checks.answers.checked import ALL
from orchestrator.checks.answers.filling import Reading, filled, messages_of
from orchestrator.checks.answers.shape import SHAPES

OWN = "own"
# Of promptfoo's own keys: what does not bear on what is asked.
_NOTED = ("providers", "targets", "outputPath", "sharing", "evaluateOptions", "commandLineOptions", "env", "tags",
          "derivedMetrics", "nunjucksFilters", "extensions", "redteam", "writeLatestResults")  # fmt: skip
_TEST = {
    "vars", "assert", "description", "options", "metadata", "threshold", "id", "params", "provider", "messages",
    "prompt",
}  # fmt: skip
# What would change a prompt or an answer, and is code or a template of its own.
_CHANGES = ("transform", "transformVars", "postprocess", "prefix", "suffix", "contextTransform")
_SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".ndjson")
_TAKEN = (*SHAPES, ALL, "smoke")
_MOST = 2000        # cases of one file
_BYTES = 32 * 2**20


def read_suite(path: Path, name: str) -> tuple[list[Case], list[str], list[str]]:
    """Return (cases, notes, mistakes) of a file; never raises for what is in it."""
    read = Reading(name, path.parent)
    data = _load(path, read)
    if data is not None:
        _config(data, read, path.stem)
    if not read.cases and not read.mistakes:
        read.wrong("file", "no tests in it")
    return ([] if read.mistakes else read.cases), list(read.notes), read.mistakes


def _load(path: Path, read: Reading) -> Any:
    try:
        if path.stat().st_size > _BYTES:
            read.wrong("file", f"larger than {_BYTES // 2**20} MiB")
            return None
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return {"prompts": None, "tests": _lines(text, read)}
        return yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        read.wrong("file", f"cannot be read: {getattr(error, 'strerror', None) or error}")
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        read.wrong("file", "not YAML: " + " ".join(str(error).split())[:300])
    return None


def _lines(text: str, read: Reading) -> list[Any]:
    found: list[Any] = []
    for at, line in enumerate(text.splitlines()):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            read.wrong(f"line {at + 1}", f"not JSON: {error}")
    return found


def _config(data: Any, read: Reading, stem: str) -> None:
    """A list of tests, or a promptfoo configuration."""
    data = {"prompts": None, "tests": data} if isinstance(data, list) else data
    if not isinstance(data, dict):
        read.wrong("file", "should be a list of tests, or an object with prompts and tests")
        return
    for key in data:
        if key in _NOTED:
            read.notes[f"{read.name}: {key} is not used: both sides of the migration are asked"] = None
        elif key not in ("prompts", "tests", "defaultTest", "description", "assertionTemplates", "$schema", "params"):
            read.wrong(str(key), "no such key here")
    prompts = _prompts(data.get("prompts"), read)
    default = data.get("defaultTest") or {}
    if not isinstance(default, dict):
        read.wrong("defaultTest", "should be an object")
        default = {}
    params = data.get("params", {})
    if said := params_problem(params):
        read.wrong("params", said)
        params = {}
    templates = data.get("assertionTemplates") or {}
    frame = _Frame(prompts, default, templates if isinstance(templates, dict) else {}, params, stem)
    tests = _tests(data.get("tests"), read)
    for at, test in enumerate(tests if data.get("tests") is not None else [{}] if prompts else []):
        _test(test, f"tests[{at}]", frame, read)
        if len(read.cases) > _MOST:
            read.wrong("tests", f"more than {_MOST} cases")
            return


@dataclass(frozen=True, slots=True)
class _Frame:
    """What holds for every test of a file."""

    prompts: list[tuple[str, Any]]
    default: dict[str, Any]
    templates: dict[str, Any]
    params: dict[str, Any]
    stem: str


def _tests(value: Any, read: Reading) -> list[Any]:
    if isinstance(value, list):
        return [one for entry in value for one in (_named_file(entry, read, "tests") if _is_file(entry) else [entry])]
    if _is_file(value):
        return _named_file(value, read, "tests")
    if value is not None:
        read.wrong("tests", "should be a list of tests, or a file of them")
    return []


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and (value.startswith("file://") or value.endswith(_SUFFIXES))


def _named_file(value: str, read: Reading, place: str) -> list[Any]:
    path = read.folder / value.removeprefix("file://")
    if path.suffix not in _SUFFIXES:
        read.wrong(place, f"{value}: only YAML, JSON and JSONL are read")
        return []
    inner = Reading(f"{read.name}: {value}", path.parent)
    found = _load(path, inner)
    read.mistakes += inner.mistakes
    found = found["tests"] if isinstance(found, dict) and set(found) == {"prompts", "tests"} else found
    return found if isinstance(found, list) else [] if found is None else [found]


def _prompts(value: Any, read: Reading) -> list[tuple[str, Any]]:
    """Return (label, text or messages) of every prompt."""
    if value is None:
        return []
    found = []
    for at, one in enumerate(value if isinstance(value, list) else [value]):
        place = f"prompts[{at}]"
        label, raw = f"p{at}", one
        if isinstance(one, dict) and "role" not in one:
            raw = one.get("raw", one.get("id"))
            label = str(one.get("label") or one.get("id") or label)
        if isinstance(raw, str) and raw.startswith("file://"):
            raw = _prompt_file(raw, place, read)
            if raw is None:
                continue
        if isinstance(raw, dict) and "role" in raw:
            raw = [raw]
        if raw is None or not isinstance(raw, str | list) or not raw:
            read.wrong(place, "should be a text, a file://, or a list of messages")
            continue
        found.append((label, raw))
    return found


def _prompt_file(value: str, place: str, read: Reading) -> Any:
    path = read.folder / value.removeprefix("file://")
    if path.suffix in (".js", ".ts", ".mjs", ".cjs", ".py", ".sh"):
        read.wrong(place, f"{value}: code of a suite is not run here")
        return None
    try:
        text = path.read_text("utf-8-sig")
        return yaml.safe_load(text) if path.suffix in (".json", ".yaml", ".yml") else text
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        read.wrong(place, f"{value}: {getattr(error, 'strerror', None) or ' '.join(str(error).split())[:200]}")
        return None


def _test(test: Any, place: str, frame: _Frame, read: Reading) -> None:
    if not isinstance(test, dict):
        read.wrong(place, "should be an object with vars and assert")
        return
    for key in test:
        if key not in _TEST:
            read.wrong(f"{place}.{key}", "no such key here")
    asserts = _asserts(test, place, frame, read)
    params = {**frame.params, **_object(test, "params", place, read)}
    if said := params_problem(params):
        read.wrong(f"{place}.params", said)
        return
    _options(test, place, frame, read)
    metadata = {**_object(frame.default, "metadata", "defaultTest", read), **_object(test, "metadata", place, read)}
    group = str(metadata.get("group") or OWN)
    if group in _TAKEN:
        read.wrong(f"{place}.metadata.group", f"{group} is a judgement of its own: choose another name")
    own = test.get("messages", test.get("prompt"))
    prompts = [("", own)] if own is not None else frame.prompts
    if not prompts:
        read.wrong(place, "no prompt: the file has no prompts, and the test no prompt and no messages")
    name = str(test.get("id") or test.get("description") or place)[:60]
    variables = {**_object(frame.default, "vars", "defaultTest", read), **_object(test, "vars", place, read)}
    for at, chosen in enumerate(_combined(variables)):
        for label, raw in prompts:
            parts = [frame.stem, name, *([label] if len(prompts) > 1 else []), *([str(at)] if at else [])]
            messages = messages_of(raw, chosen, place, read)
            rules = tuple(filled(rule, chosen, place, read) for rule in asserts)
            if messages:
                read.cases.append(Case("/".join(parts), group, tuple(messages), params, rules, origin=read.name))


def _options(test: dict[str, Any], place: str, frame: _Frame, read: Reading) -> None:
    for key in {**_object(frame.default, "options", "defaultTest", read), **_object(test, "options", place, read)}:
        if key in _CHANGES:
            read.wrong(f"{place}.options.{key}", "is not taken: what is compared are the answers themselves")
        else:
            read.notes[f"{read.name}: options.{key} is not used"] = None


def _object(holder: dict[str, Any], key: str, place: str, read: Reading) -> dict[str, Any]:
    value = holder.get(key) or {}
    if isinstance(value, dict):
        return {str(name): one for name, one in value.items()}
    read.wrong(f"{place}.{key}", "should be an object")
    return {}


def _asserts(test: dict[str, Any], place: str, frame: _Frame, read: Reading) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for where, holder in (("defaultTest", frame.default), (place, test)):
        given = holder.get("assert") or []
        if not isinstance(given, list):
            read.wrong(f"{where}.assert", "should be a list")
            continue
        for at, one in enumerate(given):
            rule = _referred(one, frame.templates)
            spot = f"{where}.assert[{at}]"
            if isinstance(rule, dict) and rule.get("type") == "assert-set" and isinstance(rule.get("assert"), list):
                if rule.get("threshold") is not None:
                    read.wrong(spot, "assert-set: a threshold is not taken, every assertion must hold")
                found += _usable(rule["assert"], f"{spot}.assert", read)
            else:
                found += _usable([rule], spot, read)
    if test.get("threshold") is not None:
        read.notes[f"{read.name}: threshold is not used: every assertion must hold"] = None
    return found


def _usable(rules: list[Any], place: str, read: Reading) -> list[dict[str, Any]]:
    found = []
    for at, one in enumerate(rules):
        spot = place if len(rules) == 1 else f"{place}[{at}]"
        rule = _with_schema(one, read)
        if said := problem(rule):
            if not any(one.startswith(f"{read.name}: {spot}: ") for one in read.mistakes):
                read.wrong(spot, said)
            continue
        name = rule["type"].removeprefix("not-")
        if name in IGNORED:
            read.notes[f"{read.name}: {rule['type']} is not judged: {IGNORED[name]}"] = None
        found.append({key: rule[key] for key in ("type", "value") if key in rule})
    return found


def _with_schema(rule: Any, read: Reading) -> Any:
    """Return the assertion with its schema as an object where it stands in a text or a file."""
    value = rule.get("value") if isinstance(rule, dict) else None
    if not isinstance(value, str) or str(rule.get("type")).removeprefix("not-") not in ("is-json", "contains-json"):
        return rule
    try:
        text = (read.folder / value[7:]).read_text("utf-8-sig") if value.startswith("file://") else value
        return {**rule, "value": yaml.safe_load(text)}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return rule


def _referred(rule: Any, templates: dict[str, Any]) -> Any:
    """Follow `$ref: '#/assertionTemplates/NAME'`."""
    reference = rule.get("$ref") if isinstance(rule, dict) else None
    if isinstance(reference, str) and reference.startswith("#/assertionTemplates/"):
        return templates.get(reference.rsplit("/", 1)[1], rule)
    return rule


def _combined(variables: dict[str, Any]) -> list[dict[str, Any]]:
    """A variable that is a list stands for one test per value, as in promptfoo."""
    spread = [[(name, one) for one in (value if isinstance(value, list) and value else [value])]
              for name, value in variables.items()]  # fmt: skip
    return [dict(chosen) for _, chosen in zip(range(_MOST + 1), product(*spread), strict=False)]
