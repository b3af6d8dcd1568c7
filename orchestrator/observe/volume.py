"""Reads the models of an Ollama that does not run, from its folder or volume, as a running one tells them.

What a server computes is computed here as it does (ollama: server/images.go, server/routes.go, x/server/show.go);
what no file tells is left empty: which models are loaded, the version. Changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.clients import gguf
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import Model
from orchestrator.observe.blobs import Folder, Layers, digest_of, parsed, why

_INSIDE = (".", "models", ".ollama/models", "root/.ollama/models", "_data/models", "_data", "_data/.ollama/models")
_DEPTH = 4                  # host, namespace, model, tag
_TELLS = {"tools": ".Tools", "thinking": ".Thinking", "insert": ".Suffix"}
_CHAT_TELLS = {"tools": ("tools",), "thinking": ("enable_thinking", "reasoning_content", "<think>")}    # Jinja
_CLOUD = (":cloud", "-cloud")
_OLLAMA = "https://ollama.com:443"
_TEMPLATE = "{{ .Prompt }}"     # Ollama's, where a model brings none
_KEPT_BACK = ("general.name", "tokenizer.chat_template")    # a server does not tell them
# A number of config.json -> the GGUF key that /api/show gives for it; those with True may stand in text_config.
_CONFIG = {
    "max_position_embeddings": ("context_length", True), "hidden_size": ("embedding_length", True),
    "num_hidden_layers": ("block_count", True), "num_attention_heads": ("attention.head_count", False),
    "num_key_value_heads": ("attention.head_count_kv", False), "intermediate_size": ("feed_forward_length", False),
    "vocab_size": ("vocab_size", False),
}  # fmt: skip
_TYPE_BYTES = {"float32": 4, "int8": 1, "uint8": 1}
_BLOB_HEADER = 150          # bytes of a tensor blob's header, as Ollama counts them


def look(path: Path) -> tuple[tuple[Model, ...], tuple[str, ...]]:
    """Return the models below `path` and what could not be read, each with its path.

    `path`: a models folder, a .ollama folder, or a volume's mount point that holds either.
    Raises UsageError when no manifests are there or they may not be read.
    """
    folder = Folder(_root(path))
    problems: list[str] = []
    models: list[Model] = []
    for manifest in _manifests(folder.root / "manifests", problems):
        try:
            models.append(_model(folder, manifest, problems))
        except MigrateError as error:
            problems.append(f"{manifest}: {error.message}")
    return tuple(models), tuple(problems)


def _root(path: Path) -> Path:
    try:
        if not path.expanduser().is_dir():
            raise UsageError(f"{path} is not a folder", hint="give the folder with Ollama's models, such as ~/.ollama")
        base = path.expanduser().resolve()
        for inside in _INSIDE:
            manifests = base / inside / "manifests"
            if manifests.is_dir():
                next(manifests.iterdir(), None)     # raises when it may not be listed
                return (base / inside).resolve()
        next(base.iterdir(), None)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {why(error)}",
                         hint="run it as a user who may read Ollama's files, or copy them") from error  # fmt: skip
    raise UsageError(f"{path} holds no Ollama models: there is no folder manifests in it",
                     hint="give a folder models or .ollama, or the mount point of the volume")  # fmt: skip


def _manifests(folder: Path, problems: list[str], depth: int = 1) -> list[Path]:
    try:
        entries = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
        if depth == _DEPTH:
            return [one for one in entries if not one.is_dir()]
        below = [one for one in entries if one.is_dir() and not one.is_symlink()]
    except OSError as error:
        problems.append(f"{folder}: {why(error)}")
        return []
    return [found for one in below for found in _manifests(one, problems, depth + 1)]


def _model(folder: Folder, manifest: Path, problems: list[str]) -> Model:
    data = folder.data(manifest)
    told = _object(parsed(data))
    blob = _object(told.get("config"))
    config = _object(parsed(folder.data(folder.blob(blob))))
    listed = told.get("layers")
    layers = tuple(one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()
    name, digest = _name(manifest), hashlib.sha256(data).hexdigest()
    size = sum(_count(one.get("size")) for one in (*layers, blob))      # with the configuration, as Ollama counts
    here = Layers(folder, layers, manifest, problems)
    weights = here.all("model") or here.all("tensor")
    remote = _text(config.get("remote_host"))
    if not remote and not weights and (_text(config.get("remote_model")) or name.lower().endswith(_CLOUD)):
        remote = _OLLAMA
    if remote:
        return Model(name=name, size=size, digest=digest, remote_host=remote)
    if not weights:
        problems.append(f"{manifest}: it names no weights")
    return _local(here, config, Model(name=name, size=size, digest=digest, modified_at=_when(manifest)))


def _local(here: Layers, config: dict[str, Any], model: Model) -> Model:
    headers = here.headers()
    packed = not here.all("model")      # safetensors, a blob per tensor
    values = _from_config(here) if packed else _from_gguf(headers)
    template = here.text("template") or here.text("prompt")
    parent = next((found for one in here.all("model") if (found := _text(one.get("from")))), "")
    family = _text(config.get("model_family")) or _text(values.get("general.architecture"))
    families = config.get("model_families")
    shown: dict[str, Any] = {
        "parent_model": parent, "format": _text(config.get("model_format")) or ("safetensors" if packed else "gguf"),
        "family": family, "families": families if isinstance(families, list) else [family] if family else [],
        "parameter_size": _text(config.get("model_type")),
        "quantization_level": _text(config.get("file_type")) or (
            here.quantization() if packed else headers[0].quantization if headers else ""),
    }  # fmt: skip
    chat = next((_text(one.values.get("tokenizer.chat_template")) for one in headers), "")
    return Model(
        name=model.name, size=model.size, digest=model.digest, modified_at=model.modified_at, parent=parent,
        family=family, parameter_size=shown["parameter_size"], quantization=shown["quantization_level"],
        format=shown["format"], capabilities=_capabilities(config, values, template, chat, here),
        system=here.text("system") or None, template=_TEMPLATE if template is None else template,
        parameters=_parameters(here.mapping("params")), messages=_messages(here.rows("messages")), architecture=values,
        details={**shown, **_details(here, config)},
    )  # fmt: skip


def _from_gguf(headers: list[gguf.Header]) -> dict[str, Any]:
    """Return the metadata as /api/show does: with the number of weights, and without what it keeps to itself."""
    if not headers:
        return {}
    values = {key: value for key, value in headers[0].values.items() if key not in _KEPT_BACK}
    if all(one.complete for one in headers):
        count = sum(math.prod(tensor.shape) for one in headers for tensor in one.tensors)
        values |= {"general.parameter_count": count} if count else {}
    return values


def _from_config(here: Layers) -> dict[str, Any]:
    """Return the keys that a server makes of the config.json of a safetensors model."""
    config = here.named("config.json")
    nested = config.get("text_config")
    inner: dict[str, Any] = nested if isinstance(nested, dict) else {}
    named = config.get("architectures")
    first = _text(named[0]).lower() if isinstance(named, list) and named else ""
    arch = _text(config.get("model_type")) or first.removesuffix("forcausallm").removesuffix("forconditionalgeneration")
    values: dict[str, Any] = {"general.architecture": arch} if arch else {}
    for name, (key, both) in _CONFIG.items():
        if number := (both and _count(inner.get(name))) or _count(config.get(name)):
            values[f"{arch}.{key}"] = number
    tensors = here.all("tensor")
    size = sum(_count(one.get("size")) for one in tensors) - _BLOB_HEADER * len(tensors)
    count = size // _TYPE_BYTES.get(_text(config.get("torch_dtype")).lower(), 2)
    return values | ({"general.parameter_count": count} if count > 0 else {})


def _capabilities(
    config: dict[str, Any], values: dict[str, Any], template: str | None, chat: str, here: Layers,
) -> tuple[str, ...]:  # fmt: skip
    """Derive them as Ollama does (server/images.go, Capabilities); the GGUF's own template counts without another."""
    arch = _text(values.get("general.architecture")) or _text(config.get("model_family"))
    told = config.get("capabilities")
    found = [one for one in told if isinstance(one, str)] if isinstance(told, list) else []
    if "image" not in found and (here.all("model") or not found):
        embedding = f"{arch}.pooling_type" in values or arch.endswith("bert")
        found.append("embedding" if embedding else "completion")
    found += [name for name, mark in _TELLS.items() if mark in (template or "")]
    if template is None:
        found += [name for name, marks in _CHAT_TELLS.items() if any(mark in chat for mark in marks)]
    if here.all("projector") or f"{arch}.vision.block_count" in values:
        found.append("vision")
    if f"{arch}.audio.block_count" in values:
        found.append("audio")
    return tuple(dict.fromkeys(found))


def _details(here: Layers, config: dict[str, Any]) -> dict[str, Any]:
    """Return what a plan reads of the Modelfile: which blobs it is made of, its parser and renderer."""
    blobs = here.folder.root / "blobs"
    marks = [f"{word} {blobs / f'sha256-{digest}'}" for word, kind in (("FROM", "model"), ("ADAPTER", "adapter"))
             for one in here.all(kind) if (digest := digest_of(one))]  # fmt: skip
    marks += [f"{key.upper()} {config[key]}" for key in ("renderer", "parser") if _text(config.get(key))]
    found: dict[str, Any] = {"modelfile": "\n".join(marks)} if marks else {}
    return {**found, "adapter": True} if here.all("adapter") else found


def _parameters(told: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as the text of /api/show gives them: every stop is a text of a list."""
    stop = told.get("stop")
    return {**told, "stop": [str(one) for one in (stop if isinstance(stop, list) else [stop])]} if stop else told


def _messages(told: list[Any]) -> tuple[dict[str, str], ...]:
    return tuple({str(key): str(value) for key, value in one.items()} for one in told if isinstance(one, dict))


def _name(manifest: Path) -> str:
    host, space, model, tag = manifest.parts[-_DEPTH:]
    if host.lower() != "registry.ollama.ai":
        return f"{host}/{space}/{model}:{tag}"
    return f"{model}:{tag}" if space.lower() == "library" else f"{space}/{model}:{tag}"


def _when(manifest: Path) -> str:
    try:
        return datetime.fromtimestamp(manifest.stat().st_mtime, UTC).isoformat()
    except (OSError, ValueError, OverflowError):    # gone in the meantime, or a clock that was wrong
        return ""


def _object(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise MigrateError("it is not a JSON object as Ollama writes it")
    return told


def _text(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _count(told: Any) -> int:
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0
