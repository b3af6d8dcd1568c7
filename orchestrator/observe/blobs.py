"""Files of a stopped Ollama: manifests, and the layers that they name. Reads nothing outside of the folder.

Layout: models/manifests/HOST/NAMESPACE/MODEL/TAG, JSON, whose digests name files in models/blobs
(ollama: manifest/manifest.go, manifest/paths.go).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.clients import gguf
from orchestrator.errors import MigrateError

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_KIND = "application/vnd.ollama.image."
_LARGEST = 4 * 2**20        # bytes of a manifest, a configuration or a text layer
_HEADER = 2**20             # bytes of the header of a safetensors blob, Ollama's own bound


@dataclass(frozen=True, slots=True)
class Folder:
    """A models folder, resolved. `manifests` and `blobs` may be links, as to another disk; what is in them may not."""

    root: Path

    def inside(self, path: Path) -> Path:
        """Return `path` without links; raises MigrateError when it is no file of this folder."""
        try:
            found = path.resolve(strict=True)
            roots = (self.root, *((self.root / part).resolve() for part in ("blobs", "manifests")))
            if not any(found.is_relative_to(root) for root in roots):
                raise MigrateError(f"{path} links to a place outside of {self.root}")
            if not found.is_file():
                raise MigrateError(f"{path} is not a file")
        except (OSError, RuntimeError) as error:
            raise MigrateError(f"{path}: {why(error)}") from error
        return found

    def blob(self, layer: dict[str, Any]) -> Path:
        """Return the file of a layer; its name has a dash, in old Ollamas a colon. Raises MigrateError."""
        digest = digest_of(layer)
        if digest is None:
            raise MigrateError(f"{str(layer.get('digest'))[:80]!r} is not a SHA-256 digest")
        names = [self.root / "blobs" / f"sha256{mark}{digest}" for mark in "-:"]
        there = next((one for one in names if os.path.lexists(one)), None)
        if there is None and names[0].with_name(f"{names[0].name}-partial").exists():
            raise MigrateError(f"{names[0]} is only partly downloaded", hint="download it again: ollama pull")
        return self.inside(there or names[0])

    def data(self, path: Path) -> bytes:
        """Return a small file's bytes; raises MigrateError."""
        found = self.inside(path)
        try:
            with found.open("rb") as stream:
                data = stream.read(_LARGEST + 1)
        except OSError as error:
            raise MigrateError(f"{path}: {why(error)}") from error
        if len(data) > _LARGEST:
            raise MigrateError(f"{path} is larger than {_LARGEST} bytes: not what it should be")
        return data


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of one model; one that cannot be read becomes a problem and reads as if it were not there."""

    folder: Folder
    listed: tuple[dict[str, Any], ...]
    manifest: Path
    problems: list[str]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.listed if _kind(one) == kind]

    def first(self, kind: str) -> dict[str, Any] | None:
        return next(iter(self.all(kind)), None)

    def headers(self) -> list[gguf.Header]:
        """Return the headers of the GGUF files: several where the weights are split."""
        found = []
        for layer in self.all("model"):
            try:
                path = self.folder.blob(layer)
                found.append(gguf.read(path))
                _complete(path, layer)
            except (MigrateError, OSError) as error:
                self.lost("model", error)
        return found

    def named(self, name: str) -> dict[str, Any]:
        """Return a JSON file that came along with the weights, such as config.json; empty without it."""
        layer = next((one for one in self.all("json") if one.get("name") == name), None)
        return dict(self._json(f"json {name}", layer, {}, dict))

    def text(self, kind: str) -> str | None:
        return self._text(kind, self.first(kind))

    def mapping(self, kind: str) -> dict[str, Any]:
        return dict(self._json(kind, self.first(kind), {}, dict))

    def rows(self, kind: str) -> list[Any]:
        return list(self._json(kind, self.first(kind), [], list))

    def quantization(self) -> str:
        """Return the scheme that the first safetensors blob names, upper case; "" for none."""
        layer = self.first("tensor")
        try:
            told = _safetensors(self.folder.blob(layer)) if layer else {}
        except (MigrateError, OSError) as error:
            self.lost("tensor", error)
            return ""
        meta = told.get("__metadata__")
        found = meta.get("quant_type") if isinstance(meta, dict) else ""
        return found.upper() if isinstance(found, str) else ""

    def lost(self, kind: str, error: Exception) -> None:
        self.problems.append(f"{self.manifest}: layer {kind}: {why(error)}")

    def _text(self, kind: str, layer: dict[str, Any] | None) -> str | None:
        try:
            return self.folder.data(self.folder.blob(layer)).decode("utf-8", errors="replace") if layer else None
        except MigrateError as error:
            self.lost(kind, error)
        return None

    def _json(self, kind: str, layer: dict[str, Any] | None, otherwise: Any, wanted: type) -> Any:
        text = self._text(kind, layer)
        try:
            found = parsed(text.encode()) if text else otherwise
        except MigrateError as error:
            self.lost(kind, error)
            return otherwise
        if not isinstance(found, wanted):
            self.lost(kind, MigrateError(f"it is not a JSON {'object' if wanted is dict else 'list'}"))
            return otherwise
        return found


def digest_of(layer: dict[str, Any]) -> str | None:
    """Return the hexadecimal digest of a layer; None when it names none."""
    told = layer.get("digest")
    named = _DIGEST.fullmatch(told) if isinstance(told, str) else None
    return named[1].lower() if named else None


def _complete(path: Path, layer: dict[str, Any]) -> None:
    whole, there = layer.get("size"), path.stat().st_size
    if isinstance(whole, int) and there < whole:
        raise MigrateError(f"{path} has {there} of {whole} bytes: download it again, ollama pull")


def parsed(data: bytes) -> Any:
    """Return JSON; raises MigrateError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MigrateError(f"it is not JSON: {error}") from error


def why(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)


def _kind(layer: dict[str, Any]) -> str:
    told = layer.get("mediaType")
    return told.partition(";")[0].strip().removeprefix(_KIND) if isinstance(told, str) else ""


def _safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > _HEADER:
            raise MigrateError(f"{path}: its safetensors header has {size} bytes")
        found = parsed(stream.read(size))
    return found if isinstance(found, dict) else {}
