"""The machine-readable forms: what --json answers and what migrate reads, as JSON Schemas made from the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from orchestrator.decide.eta import Eta
from orchestrator.decide.finding import Finding
from orchestrator.decide.handover import Handover
from orchestrator.decide.preflight import Result
from orchestrator.decide.tuning import Setting
from orchestrator.decide.verdict.parts import Missing, Reason
from orchestrator.errors import ExitCode
from orchestrator.facts import Caller, DockerFacts, Facts, Gpu, Traffic
from orchestrator.plan import Plan
from orchestrator.rendering.dataschema import DIALECT, Schema, document, of
from orchestrator.spec import Route, Spec
from orchestrator.spec_engine import Engine

# Form 1 grows by keys; what is there keeps its meaning. A reader passes over keys that it does not know.
VERSION: Schema = {"const": 1, "description": "version of this form"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
# Left out of `engines`: what a user puts there is nobody else's business.
_WITHHELD = ("env", "vllm")


def form_of(name: str) -> Schema:
    """Return the schema of one form; raises KeyError for a name that is not in NAMES."""
    return _FORMS[name]()


def _said(text: str, inner: Schema | None = None, kind: str | list[str] = "string") -> Schema:
    return {**(inner if inner is not None else {"type": kind}), "description": text}


def _plan() -> Schema:
    defs: dict[str, Schema] = {}
    left = {
        "stays": _said("model to why it stays on Ollama", _mapping({"type": "string"})),
        "handover": _said("model to what taking turns with Ollama would be", of(dict[str, Handover], defs)),
    }
    keys = {"schema": VERSION, **_where(), **_decision(defs), **_world(defs), **left}
    stays = {"tuning": _said("settings of today's Ollama", of(tuple[Setting, ...], defs))}
    written = {
        "compose_checked": _said("whether `docker compose config` accepted the files", kind="boolean"),
        "routes": _said("Ollama's name to its engine", _mapping(_spec_part(Route, defs))),
        "engines": _said("each vLLM as migrate.yaml has it, without its environment", _mapping(_engine(defs))),
        "hub": _said("each repository as it was seen", _TEXTS),
        "memory": _said("the inequality of each GPU, by lines", _TEXTS),
        "eta": _said("how long each phase takes", of(tuple[Eta, ...], defs)),
        "plan": _said("the steps of `up`", of(Plan, defs)),
    }
    nothing = {"properties": {"stack": {"type": "null"}}}
    text = "`migrate plan --json`. Sizes are bytes, times seconds."
    whole = document("plan", text, {**keys, **stays, **written}, defs)
    return whole | {"required": list(keys), "if": nothing,
                    "then": {"required": list(stays)}, "else": {"required": list(written)}}  # fmt: skip


def _where() -> Schema:
    return {
        "stack": _said("the stack that was written; null: nothing was", kind=["string", "null"]),
        "dir": _said("its folder", kind=["string", "null"]),
    }


def _decision(defs: dict[str, Schema]) -> Schema:
    return {
        "verdict": {"enum": ["stay", "tune", "consider", "migrate", "cannot"]},
        "forced": _said("the verdict was against it, and --force went on", kind="boolean"),
        "rehearsal": _said("vLLM's CPU build", kind="boolean"),
        "reasons": _said("in the order in which they count", of(tuple[Reason, ...], defs)),
        "symptoms": _said("each of the six; null: unknown", _mapping({"type": ["boolean", "null"]})),
        "hours_lost_per_week": _said("waiting behind others; null: unknown", kind=["number", "null"]),
        "missing": _said("what is not known, and how to find out", of(tuple[Missing, ...], defs)),
    }


def _world(defs: dict[str, Schema]) -> Schema:
    ollama: Schema = {
        "type": "object", "required": ["url", "version", "models", "container"],
        "properties": {"url": {"type": "string"}, "version": {"type": "string"}, "models": _TEXTS,
                       "container": {"type": ["string", "null"]}},
    }  # fmt: skip
    return {
        "ollama": _said("today's Ollama", ollama),
        "gpus": of(tuple[Gpu, ...], defs),
        "gpu_problem": _said("why there is no GPU"),
        "gpu_notes": _said("what NVML said of GPUs that are not listed, or not as they seem", _TEXTS),
        "docker": of(DockerFacts | None, defs),
        "traffic": _said("the evidence", of(Traffic, defs)),
        "callers": _said("places in source that talk to Ollama, by --scan", of(tuple[Caller, ...], defs)),
        "scanned": _said("files that were read for them; null: nobody looked", kind=["integer", "null"]),
    }


def _facts() -> Schema:
    defs: dict[str, Schema] = {}
    text = "`migrate facts`, and what `migrate plan --facts FILE` reads. Sizes are bytes, times seconds."
    return document("facts", text, {"schema": VERSION, "facts": of(Facts, defs)}, defs)


def _doctor() -> Schema:
    defs: dict[str, Schema] = {}
    machine = {"checks": of(tuple[Result, ...], defs), "ready": _said("nothing failed", kind="boolean")}
    finding: Schema = {"allOf": [of(Finding, defs), {"properties": {"file": {"type": "string"}}, "required": ["file"]}]}
    compose = {
        "file": _said("the Compose files that were read"), "findings": {"type": "array", "items": finding},
        "errors": _said("findings with severity `error`", kind="integer"),
    }  # fmt: skip
    text = "`migrate doctor --json`; with --compose `file`, `findings`, `errors`. Exit code 3: something failed."
    whole = document("doctor", text, {"schema": VERSION, **machine, **compose}, defs)
    return whole | {"required": ["schema"], "oneOf": [{"required": list(machine)}, {"required": list(compose)}]}


def _scan() -> Schema:
    defs: dict[str, Schema] = {}
    return document("scan", "`migrate scan --json`", {
        "schema": VERSION,
        "callers": _said("every place that talks to Ollama", of(tuple[Caller, ...], defs)),
        "files": _said("files that were read", kind="integer"),
        "skipped": _said("why files or folders were left out, and how many", _mapping({"type": "integer"})),
        "unreadable": _said("files that could not be read", _TEXTS),
        "diff": _said("the patch of --diff; null without", kind=["string", "null"]),
    }, defs)  # fmt: skip


def _error() -> Schema:
    return document("error", "What stderr holds with --json when a command fails, on one line.", {
        "schema": VERSION, "event": {"const": "error"}, "message": {"type": "string"}, "evidence": {"type": "string"},
        "hint": _said("what to do next"), "exit_code": {"enum": [int(one) for one in ExitCode]},
    }, {})  # fmt: skip


def _spec() -> Schema:
    """The stack file: what may stand in it, so sizes and durations as text too."""
    found: Schema = _plain(Spec.model_json_schema(mode="validation"))
    return {"$schema": DIALECT, "$id": "urn:migrate:migrate.yaml:1", **found, "title": "migrate.yaml"}


def _plain(value: Any) -> Any:
    """Leave out what is no keyword of JSON Schema: bounds that stand beside alternatives, which have their own."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key != "ge" or isinstance(one, dict)}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _saved() -> Schema:
    whole: Schema = json.loads((files("orchestrator") / "data" / "plan.schema.json").read_text(encoding="utf-8"))
    return whole


def _mapping(inner: Schema) -> Schema:
    return {"type": "object", "additionalProperties": inner}


def _spec_part(kind: type[Route | Engine], defs: dict[str, Schema]) -> Schema:
    found = kind.model_json_schema(mode="serialization", ref_template="#/$defs/{model}")
    defs.update(found.pop("$defs", {}))
    found["required"] = list(found["properties"])
    return found


def _engine(defs: dict[str, Schema]) -> Schema:
    found = _spec_part(Engine, defs)
    for name in _WITHHELD:
        del found["properties"][name]
        found["required"].remove(name)
    defs.pop("Vllm", None)
    return found


_FORMS: dict[str, Callable[[], Schema]] = {
    "plan": _plan, "facts": _facts, "doctor": _doctor, "scan": _scan, "error": _error, "migrate.yaml": _spec,
    "plan-file": _saved,
}  # fmt: skip
NAMES = tuple(_FORMS)
