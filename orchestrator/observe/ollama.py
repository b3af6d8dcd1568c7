"""Looks at an Ollama server: version, models with their Modelfile, what is loaded. Changes nothing."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.clients.ollama import Guarded, Ollama, Refused, Tag
from orchestrator.errors import MigrateError
from orchestrator.facts import Loaded, Model, OllamaContainer, OllamaFacts

# Values in quotes may run over lines that look like directives.
_QUOTED = re.compile(
    r"^[ \t]*(?:SYSTEM|TEMPLATE|LICENSE|(?:MESSAGE|PARAMETER)[ \t]+\w+:?)[ \t]+"
    r'(?:"""[\s\S]*?(?:"""|\Z)|"[^"]*(?:"|\Z))',
    re.MULTILINE | re.IGNORECASE,
)
_DIRECTIVE = re.compile(r"^[ \t]*((?:FROM|ADAPTER|PARSER|RENDERER)[ \t]+\S.{0,999})", re.MULTILINE | re.IGNORECASE)

_LAYERS = 1024      # the longest list that is kept: one entry per layer


def answers(url: str) -> bool:
    """Whether an Ollama answers at `url`; raises Guarded when something there wants authentication."""
    try:
        with Ollama(url) as ollama:
            return bool(ollama.version())
    except Guarded:
        raise
    except MigrateError:
        return False


def proxy(url: str) -> str:
    """Say which proxy answers at `url` in front of Ollama, "" for none that names itself. Never raises."""
    try:
        with Ollama(url) as ollama:
            ollama.version()
            front = ollama.front
    except MigrateError:
        return ""
    return f"{front} answers at {url}: what it checks or rewrites must move in front of the gateway" if front else ""


def directives(modelfile: str) -> str:
    """Return the lines of a Modelfile that a plan reads: FROM, ADAPTER, PARSER, RENDERER; no prompts, no licence."""
    lines = _DIRECTIVE.findall(_QUOTED.sub("", modelfile.replace("\r\n", "\n")))
    return "\n".join(line.strip() for line in lines[:20])


def look(url: str, container: OllamaContainer | None = None) -> OllamaFacts:
    """Freeze the server at `url`; raises MigrateError when it does not answer."""
    with Ollama(url) as ollama:
        version = ollama.version()
        models = tuple(_model(ollama, tag) for tag in ollama.tags())
        loaded = tuple(
            Loaded(one.name, one.size, one.size_vram, one.context_length) for one in ollama.ps()
        )
    return OllamaFacts(url, version, models, loaded, container)


def _model(ollama: Ollama, tag: Tag) -> Model:
    details = tag.details
    if tag.remote_host:
        return Model(name=tag.name, size=tag.size, digest=tag.digest, remote_host=tag.remote_host)
    try:
        shown = ollama.show(tag.name)
    except Refused as error:        # a damaged one: what is known of the others still counts
        said = error.evidence or error.message
        return Model(name=tag.name, size=tag.size, digest=tag.digest, details={**details, "unreadable": said[:200]})
    told = directives(shown.modelfile)
    return Model(
        name=tag.name,
        size=tag.size,
        digest=tag.digest,
        family=str(details.get("family", "")),
        parameter_size=str(details.get("parameter_size", "")),
        quantization=str(details.get("quantization_level", "")),
        format=str(details.get("format", "gguf")),
        capabilities=tag.capabilities or shown.capabilities,
        system=shown.system,
        template=shown.template,
        parameters=shown.parameters,
        messages=shown.messages,
        architecture=_listed(ollama, tag.name, shown.model_info),
        parent=str(shown.details.get("parent_model", "")),
        modified_at=tag.modified_at,
        details={**details, "modelfile": told} if told else details,
    )


def _listed(ollama: Ollama, name: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return the GGUF keys with the lists that say what each layer is, such as KV heads of a hybrid.

    Ollama leaves lists out unless it is asked for all, the vocabulary among them; that is dropped here.
    """
    own = f"{info.get('general.architecture')}."
    absent = [key for key, value in info.items() if value is None and key.startswith(own)]
    if not absent:
        return info
    try:
        whole = ollama.show(name, verbose=True).model_info
    except MigrateError:
        return info
    short = {key: whole[key] for key in absent if isinstance(whole.get(key), list) and len(whole[key]) <= _LAYERS}
    return info | short
