"""Which tool-call and reasoning parser an engine gets; only names that the pinned vLLM has."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.decide.catalog import Catalog, Entry
from orchestrator.decide.dimensions import gguf_numbers
from orchestrator.facts import Model

_LINE = re.compile(r"^\s*(?:PARSER|RENDERER)\s+(\S+)\s*$", re.MULTILINE | re.IGNORECASE)


def parsers(model: Model, entry: Entry | None, catalog: Catalog) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return tool-call parser, reasoning parser, and what to say about them.

    The catalogue first, then the Modelfile's PARSER or RENDERER, then (for what the catalogue does not know)
    the architecture. A model without the capability needs none.
    """
    tool, reasoning = (entry.tool_parser, entry.reasoning_parser) if entry else (None, None)
    hinted = _hinted(model, catalog)
    mapped = _by_architecture(model.architecture, catalog) if entry is None else (None, None)
    tool, reasoning = tool or hinted[0] or mapped[0], reasoning or hinted[1] or mapped[1]
    tool = tool if tool in catalog.tool_parsers and _can(model, "tools") else None
    reasoning = reasoning if reasoning in catalog.reasoning_parsers and _can(model, "thinking") else None
    notes = []
    if "tools" in model.capabilities and tool is None:
        notes.append("callers may use tools, and no tool-call parser of vLLM is known for this model")
    if "thinking" in model.capabilities and reasoning is None:
        notes.append("it thinks, and no reasoning parser of vLLM is known: thoughts stay in the answer's text")
    return tool, reasoning, tuple(notes)


def _can(model: Model, capability: str) -> bool:
    return not model.capabilities or capability in model.capabilities


def _hinted(model: Model, catalog: Catalog) -> tuple[str | None, str | None]:
    told = [str(model.details.get(key) or "") for key in ("parser", "renderer")]
    told += _LINE.findall(str(model.details.get("modelfile") or ""))
    known = [catalog.parser_hints[name.lower()] for name in told if name.lower() in catalog.parser_hints]
    return known[0] if known else (None, None)


def _by_architecture(info: dict[str, Any], catalog: Catalog) -> tuple[str | None, str | None]:
    arch = str(info.get("general.architecture", ""))
    known = catalog.architectures.get(arch, {})
    if arch == "llama":     # one word for many families: the vocabulary tells them apart
        return {128256: "llama3_json", 32768: "mistral"}.get(gguf_numbers(info).vocab or 0), None
    return known.get("tool_parser"), known.get("reasoning_parser")
