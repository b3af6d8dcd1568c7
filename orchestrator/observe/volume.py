"""Reads the models of an Ollama that does not run, from its folder or volume. Changes nothing.

Layout: models/manifests/HOST/NAMESPACE/MODEL/TAG, JSON, whose digests name files in models/blobs
(ollama: manifest/manifest.go, manifest/paths.go, types/model/config.go).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.clients import gguf
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import Model

_INSIDE = (".", "models", ".ollama/models", "root/.ollama/models", "_data/models", "_data", "_data/.ollama/models")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_KIND = "application/vnd.ollama.image."
_LARGEST = 4 * 2**20        # bytes of a manifest, a configuration or a text layer
_DEPTH = 4                  # host, namespace, model, tag
_TELLS = {"tools": ".Tools", "thinking": ".Thinking", "insert": ".Suffix"}


@dataclass(frozen=True, slots=True)
class _Folder:
    """A models folder, resolved: nothing outside of it is read."""

    root: Path

    def inside(self, path: Path) -> Path:
        """Return `path` without links; raises MigrateError when it is no file of this folder."""
        try:
            found = path.resolve(strict=True)
            if not found.is_relative_to(self.root):
                raise MigrateError(f"{path} links to a place outside of {self.root}")
            if not found.is_file():
                raise MigrateError(f"{path} is not a file")
        except (OSError, RuntimeError) as error:
            raise MigrateError(f"{path}: {_why(error)}") from error
        return found

    def blob(self, layer: dict[str, Any]) -> Path:
        digest = layer.get("digest")
        named = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if named is None:
            raise MigrateError(f"{str(digest)[:80]!r} is not a SHA-256 digest")
        return self.inside(self.root / "blobs" / f"sha256-{named[1]}")

    def data(self, path: Path) -> bytes:
        found = self.inside(path)
        try:
            with found.open("rb") as stream:
                data = stream.read(_LARGEST + 1)
        except OSError as error:
            raise MigrateError(f"{path}: {_why(error)}") from error
        if len(data) > _LARGEST:
            raise MigrateError(f"{path} is larger than {_LARGEST} bytes: not what it should be")
        return data


def look(path: Path) -> tuple[tuple[Model, ...], tuple[str, ...]]:
    """Return the models below `path` and what could not be read, each with its path.

    `path`: a models folder, a .ollama folder, or a volume's mount point that holds either.
    Raises UsageError when no manifests are there or they may not be read.
    """
    folder = _Folder(_root(path))
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
        raise UsageError(f"{path} cannot be read: {_why(error)}",
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
        problems.append(f"{folder}: {_why(error)}")
        return []
    return [found for one in below for found in _manifests(one, problems, depth + 1)]


def _model(folder: _Folder, manifest: Path, problems: list[str]) -> Model:
    data = folder.data(manifest)
    told = _mapping(_parsed(data))
    config = _mapping(_parsed(folder.data(folder.blob(_mapping(told.get("config"))))))
    listed = told.get("layers")
    layers = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    name, digest = _name(manifest), hashlib.sha256(data).hexdigest()
    size = sum(_count(one.get("size")) for one in layers)
    remote = _text(config.get("remote_host"))
    if remote:
        return Model(name=name, size=size, digest=digest, remote_host=remote)
    kinds: dict[str, dict[str, Any]] = {}
    for layer in layers:
        kinds.setdefault(_text(layer.get("mediaType")).removeprefix(_KIND), layer)
    here = _Layers(folder, kinds, manifest, problems)
    header = here.header()
    template = here.text("template")
    return Model(
        name=name, size=size, digest=digest,
        family=_text(config.get("model_family")) or _text(header.values.get("general.architecture")),
        parameter_size=_text(config.get("model_type")),
        quantization=_text(config.get("file_type")) or header.quantization,
        format=_text(config.get("model_format")) or "gguf",
        capabilities=_capabilities(config, header.values, template or "", kinds),
        system=here.text("system") or here.text("prompt"),
        template=template,
        parameters=_mapping(here.json("params", {})),
        messages=_messages(here.json("messages", [])),
        architecture=header.values,
        parent=_text(kinds.get("model", {}).get("from")),
        modified_at=datetime.fromtimestamp(manifest.stat().st_mtime, UTC).isoformat(),
        details=_details(config, kinds),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers of one model; one that cannot be read becomes a problem and reads as if it were not there."""

    folder: _Folder
    kinds: dict[str, dict[str, Any]]
    manifest: Path
    problems: list[str]

    def header(self) -> gguf.Header:
        try:
            if "model" in self.kinds:
                return gguf.read(self.folder.blob(self.kinds["model"]))
        except MigrateError as error:
            self._lost("model", error)
        return gguf.Header(0, {})

    def text(self, kind: str) -> str | None:
        try:
            if kind in self.kinds:
                return self.folder.data(self.folder.blob(self.kinds[kind])).decode("utf-8", errors="replace")
        except MigrateError as error:
            self._lost(kind, error)
        return None

    def json(self, kind: str, otherwise: Any) -> Any:
        text = self.text(kind)
        try:
            return _parsed(text.encode()) if text else otherwise
        except MigrateError as error:
            self._lost(kind, error)
            return otherwise

    def _lost(self, kind: str, error: MigrateError) -> None:
        self.problems.append(f"{self.manifest}: layer {kind}: {error.message}")


def _capabilities(config: dict[str, Any], values: dict[str, Any], template: str, kinds: dict[str, Any]
                  ) -> tuple[str, ...]:  # fmt: skip
    """Derive them as Ollama does (server/images.go, Capabilities)."""
    arch = _text(values.get("general.architecture")) or _text(config.get("model_family"))
    embedding = f"{arch}.pooling_type" in values or arch.endswith("bert")
    found = ["embedding" if embedding else "completion"]
    found += [name for name, mark in _TELLS.items() if mark in template]
    if "projector" in kinds or f"{arch}.vision.block_count" in values:
        found.append("vision")
    told = config.get("capabilities")
    found += [one for one in told if isinstance(one, str)] if isinstance(told, list) else []
    return tuple(dict.fromkeys(found))


def _details(config: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    marks = [f"{key.upper()} {config[key]}" for key in ("renderer", "parser") if _text(config.get(key))]
    found: dict[str, Any] = {"modelfile": "\n".join(marks)} if marks else {}
    return {**found, "adapter": True} if "adapter" in kinds else found


def _messages(told: Any) -> tuple[dict[str, str], ...]:
    listed = told if isinstance(told, list) else []
    return tuple({str(key): str(value) for key, value in one.items()} for one in listed if isinstance(one, dict))


def _name(manifest: Path) -> str:
    host, space, model, tag = manifest.parts[-_DEPTH:]
    if host != "registry.ollama.ai":
        return f"{host}/{space}/{model}:{tag}"
    return f"{model}:{tag}" if space == "library" else f"{space}/{model}:{tag}"


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MigrateError(f"it is not JSON: {error}") from error


def _mapping(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise MigrateError("it is not a JSON object as Ollama writes it")
    return told


def _text(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _count(told: Any) -> int:
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else 0


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
