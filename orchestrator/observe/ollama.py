"""Looks at an Ollama server: version, models with their Modelfile, what is loaded. Changes nothing."""

from __future__ import annotations

from orchestrator.clients.ollama import Ollama, Tag
from orchestrator.errors import MigrateError
from orchestrator.facts import Loaded, Model, OllamaContainer, OllamaFacts


def answers(url: str) -> bool:
    """Whether an Ollama answers at `url`."""
    try:
        with Ollama(url) as ollama:
            return bool(ollama.version())
    except MigrateError:
        return False


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
    shown = ollama.show(tag.name)
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
        architecture=shown.model_info,
        parent=str(shown.details.get("parent_model", "")),
        modified_at=tag.modified_at,
        details=details,
    )
