"""The stack file as text: what matters, with the reasons beside it; reads back as the same spec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from orchestrator.decide.propose import Proposal
from orchestrator.spec import Spec

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
_SIZES = {"kv_cache"}
_DURATIONS = {"start_timeout", "drain", "bake", "patience", "lease", "timeout", "ttft_p95"}
_ALWAYS: dict[str, tuple[str, ...]] = {
    "ollama": ("url", "image"),
    "gateway": ("listen", "port", "control_port"),
    "engine": ("repo", "max_model_len", "max_num_seqs", "kv_cache"),
}
_HEAD = "# What migrate is to do; edit it and run `migrate plan` again. Every other key has a default."
_KEYS = {
    ("ollama",): "Today's Ollama, and how the stack runs it.",
    ("ollama", "context_length"): "Pinned, so that its memory stays what the arithmetic says.",
    ("ollama", "pinned"): "Kept loaded while both engines share a GPU.",
    ("gateway",): "Takes Ollama's own address; control_port is for migrate, on loopback.",
    ("engines",): "One vLLM each.",
    ("routes",): "Ollama's name -> engine. What is not listed stays on Ollama.",
}
_ENGINE_KEYS = {
    "gated": "Needs HF_TOKEN in .env, from an account that accepted the licence.",
    "kv_cache": "Per GPU: the cache, and the share of the whole GPU that vLLM asks for when it starts.",
}

Path = tuple[str, ...]


def spec_to_yaml(spec: Spec, proposal: Proposal | None = None) -> str:
    """Return `spec` as commented YAML with the keys that are not default, and the important ones."""
    comments = _comments(spec, proposal)
    lines = [_HEAD, *(f"# {' '.join(note.split())}" for note in (proposal.notes if proposal else ()))]
    return "\n".join([*lines, *_mapping(_chosen(spec), (), comments)]) + "\n"


def _comments(spec: Spec, proposal: Proposal | None) -> dict[Path, list[str]]:
    found: dict[Path, list[str]] = {path: [text] for path, text in _KEYS.items()}
    texts = _ENGINE_KEYS | ({"kv_cache": "In the host's memory."} if spec.accelerator == "cpu" else {})
    for name in spec.engines:
        found |= {("engines", name, key): [text] for key, text in texts.items()}
    if proposal:
        for name, reasons in proposal.engines.items():
            found["engines", name] = [*reasons]
        found["engines",] += [str(budget) for budget in proposal.proof.budgets]
        found["routes",] += [f"{model} stays: {reason}" for model, reason in proposal.stays.items()]
    return found


def _chosen(spec: Spec) -> dict[str, Any]:
    whole = spec.model_dump(mode="json")
    data = spec.model_dump(mode="json", exclude_defaults=True)
    chosen = {"version": whole["version"], "name": whole["name"], "accelerator": whole["accelerator"]}
    for key in ("ollama", "gateway"):
        chosen[key] = _with(data.get(key, {}), whole[key], _ALWAYS[key])
    on_gpu = () if spec.accelerator == "cpu" else ("gpu_memory_utilization",)
    for key, always in (("engines", (*_ALWAYS["engine"], *on_gpu)), ("routes", ("engine",))):
        old = data.get(key, {})
        chosen[key] = {name: _with(old.get(name, {}), item, always) for name, item in whole[key].items()}
    return {**chosen, **{key: value for key, value in data.items() if key not in chosen}}


def _with(changed: dict[str, Any], whole: dict[str, Any], always: tuple[str, ...]) -> dict[str, Any]:
    """Return the changed and the important keys, in the order of the model."""
    return {key: value for key, value in whole.items() if key in changed or key in always}


def _mapping(data: dict[str, Any], path: Path, comments: dict[Path, list[str]]) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in data.items():
        here = (*path, key)
        if not path and isinstance(value, dict):
            yield ""
        yield from (f"{indent}# {' '.join(line.split())}" for line in comments.get(here, ()))
        if isinstance(value, dict) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _mapping(value, here, comments)
        else:
            yield f"{indent}{_scalar(key)}: {_value(key, value)}"


def _value(key: str, value: Any) -> str:
    if key in _SIZES and isinstance(value, int) and value and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    if key in _DURATIONS and isinstance(value, int | float):
        return f"{value:g}s"
    if isinstance(value, list):
        return "[" + ", ".join(_value("", item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else json.dumps(value, ensure_ascii=True)
