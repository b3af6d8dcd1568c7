"""Reads a hand-written Compose file with Ollama or vLLM in it and names each error with its fix. Pure: text in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.decide.composecheck import (
    clients,
    devices,
    fits,
    forms,
    gpus,
    images,
    model,
    mounts,
    ollama,
    room,
    serving,
    structure,
    urls,
    vllm,
    wiring,
)  # fmt: skip
from orchestrator.decide.composecheck.document import Broken, read
from orchestrator.decide.composecheck.project import Card, project
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding, ordered

__all__ = ["Card", "check", "included"]


def check(
    text: str,
    *,
    card: Card | None = None,
    env: Mapping[str, str] | None = None,
    others: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return everything that is wrong with a Compose file (or a LiteLLM configuration), worst first, with lines.

    `card` is the GPU it is meant for; without it no sizes are judged. `env` fills variables in, as .env would.
    `others` holds the texts of mounted configuration files. Never raises for what stands in the text.
    """
    try:
        raw, found = read(text)
    except Broken as broken:
        return [broken.finding]
    whole = project(raw, text, env or {}, card)
    for one in (structure, wiring, forms, images, ollama, vllm, model, serving, mounts, gpus, devices, fits, room):
        found = found + one.check(whole)
    found = found + urls.check(whole) + clients.check(whole, others or {})
    return ordered([replace(one, line=max(1, one.line)) for one in found])


def included(text: str) -> list[str]:
    """Return the files that a Compose file includes, as it names them; those of other machines are left out."""
    try:
        raw, _ = read(text)
    except Broken:
        return []
    said = raw.get("include")
    items = [one.get("path") if isinstance(one, Map) else one for one in (said if isinstance(said, Seq) else [])]
    paths = [path for item in items for path in (item if isinstance(item, Seq) else [item])]
    return [path for path in paths if isinstance(path, str) and path and "://" not in path and "$" not in path]
