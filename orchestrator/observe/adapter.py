"""Looks at the LoRA adapters that a stack file names: PEFT directories, and repositories of the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.clients.hub import Hub, local_weights, parsed, read_local, snapshot
from orchestrator.decide.adapters import on_host
from orchestrator.decide.mapping import is_local
from orchestrator.facts import AdapterFacts
from orchestrator.spec_engine import Engine

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
_MOST_HEADER = 64 * 2**20
_MATRIX = re.compile(r"\.([\w]+)\.lora_(?:embedding_)?([AB])(?:\.\w+)?(?:\.weight)?$")
_GGUF = "a GGUF adapter alone cannot be loaded by vLLM; name its PEFT directory"
# What decides whether vLLM loads it, and what it takes; the rest of the file is left where it is.
_KEYS = (
    "peft_type", "r", "lora_alpha", "target_modules", "rank_pattern", "bias", "base_model_name_or_path", "use_dora",
    "modules_to_save", "megatron_config", "layer_replication", "lora_bias", "alora_invocation_tokens", "use_bdlora",
    "use_qalora", "trainable_token_indices", "init_lora_weights",
)  # fmt: skip


def look(
    engines: Mapping[str, Engine], folder: Path, hub: Hub | None = None, *, ask: bool = True
) -> tuple[AdapterFacts, ...]:
    """Return what is there of every adapter of these engines; never raises for what is missing or broken.

    `folder`: where migrate.yaml lies, from which its relative paths are meant. `ask` False: the plan is for another
    machine, so that only a directory which happens to be here too is read.
    """
    named = [(engine, name) for engine, one in engines.items() for name in one.adapters]
    if not named:
        return ()
    own = hub or Hub()
    try:
        return tuple(_look(engines[engine], engine, name, folder, own if ask else None) for engine, name in named)
    finally:
        if hub is None:
            own.close()


def _look(one: Engine, engine: str, name: str, folder: Path, hub: Hub | None) -> AdapterFacts:
    start = AdapterFacts(engine, name, one.adapters[name])
    local = is_local(start.where)
    at = on_host(one, start.where)
    if local and at is None:
        return replace(start, doubt="it lies in a volume")
    path = folder / Path(at or "").expanduser()
    if hub is None and not (local and path.is_dir()):
        return replace(start, doubt="the plan is for another machine")
    return _directory(start, path) if local or hub is None else _repository(start, hub)


def _directory(start: AdapterFacts, folder: Path) -> AdapterFacts:
    try:
        if not folder.is_dir():
            what = "is a file, not the directory that PEFT wrote" if folder.is_file() else "does not exist"
            return replace(start, problem=f"{folder} {what}")
        names = {one.name for one in folder.iterdir()}
    except OSError as error:
        return replace(start, problem=f"{folder} cannot be read: {error.strerror or error}")
    config = read_local(folder, _CONFIG)
    if not isinstance(config, dict):
        if any(one.lower().endswith(".gguf") for one in names):
            return replace(start, problem=_GGUF)
        return replace(start, problem=f"{folder} has no readable {_CONFIG}: name the directory that PEFT wrote")
    if not names & set(_WEIGHTS):
        return replace(start, config=_kept(config), problem=f"{folder} has no {_WEIGHTS[0]}")
    tensors = _tensors(folder / _WEIGHTS[0])
    return replace(start, config=_kept(config), size=local_weights(folder), tensors=tensors)


def _repository(start: AdapterFacts, hub: Hub) -> AdapterFacts:
    if hub.offline:
        return _cached(start, hub, "offline")
    answer = hub.file(start.where, _CONFIG)
    if answer.status == 0:
        hub.offline = True      # the next adapter need not wait for the same silence
        return _cached(start, hub, answer.problem)
    if answer.status in (401, 403):
        return replace(start, problem="its repository is gated or private: accept its licence, give HF_TOKEN in .env, "
                       "and set gated: true for its engine")  # fmt: skip
    if answer.status == 404:
        why = f"; {_GGUF}" if "gguf" in start.where.lower() else ""
        return replace(start, problem=f"the Hub has no {start.where} with an {_CONFIG}{why}")
    config = parsed(answer.body) if answer.status == 200 else None
    if not isinstance(config, dict):
        return replace(start, doubt=answer.problem or f"the Hub answered {answer.status}")
    sizes = [one.get("size") for one in hub.tree(start.where) or [] if one.get("path") in _WEIGHTS]
    known = [one for one in sizes if isinstance(one, int)]
    return replace(start, config=_kept(config), size=known[0] if known else None)


def _cached(start: AdapterFacts, hub: Hub, why: str) -> AdapterFacts:
    folder = snapshot(hub.cache, start.where)
    return _directory(start, folder) if folder else replace(start, doubt=f"{why}, and not in the cache here")


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _KEYS if key in config}


def _tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Return (rank, in, out) of each module, the largest of all layers, from the header of a safetensors file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length <= _MOST_HEADER else {}
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, list[int]] = {}
    for name, told in header.items() if isinstance(header, dict) else ():
        matrix, shape = _MATRIX.search(str(name)), told.get("shape") if isinstance(told, dict) else None
        if matrix and isinstance(shape, list) and len(shape) == 2 and all(isinstance(one, int) for one in shape):
            rank, inner, outer = found.setdefault(matrix[1], [0, 0, 0])
            side = (max(rank, shape[0]), max(inner, shape[1]), outer) if matrix[2] == "A" \
                else (max(rank, shape[1]), inner, max(outer, shape[0]))  # fmt: skip
            found[matrix[1]] = list(side)
    return {name: tuple(sizes) for name, sizes in found.items()}
