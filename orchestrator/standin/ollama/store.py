"""The models directory on disk, laid out as Ollama does: manifests by name, layers by digest.

The layer of the weights is a small JSON text instead of a GGUF file; the manifest gives the size that the
real file would have. Two servers on one directory see the same models, as with the real one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from orchestrator.standin.ollama import names
from orchestrator.standin.ollama.models import Model, Weights, defaults

Json = dict[str, Any]
KIND = "application/vnd.ollama.image."
TEXT_LAYERS = ("template", "system", "license")
JSON_LAYERS = ("params", "messages")


def folder() -> Path:
    return Path(os.environ.get("OLLAMA_MODELS") or Path.home() / ".ollama" / "models")


class Store:
    """Reads and writes one models directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache: dict[tuple[str, int, int], Model] = {}

    def seed(self, described: str | None) -> None:
        """Fill an empty directory, by default with the built-in set.

        `described` is the path of a JSON file {NAME: {weights, capabilities, …}} (STANDIN_MODELS).
        """
        if any(self._manifests()):
            return
        for name, model in (read_described(Path(described)) if described else defaults()).items():
            self.put(name, model)

    def models(self) -> list[Model]:
        """Return all models, the youngest first."""
        found = (self._load(path) for path in self._manifests())
        return sorted((m for m in found if m), key=lambda m: -m.modified)

    def get(self, name: str) -> Model | None:
        path = self._find(names.parse(name))
        return self._load(path) if path else None

    def put(self, name: str, model: Model) -> Model:
        """Write a model under a name; returns it as stored."""
        parsed = names.parse(name)
        path = self._find(parsed) or self._path(parsed)
        weights = self._blob("model", json.dumps(asdict(model.weights)).encode(), size=model.weights.size)
        layers = [weights, *(self._blob(kind, data) for kind, data in model.layers)]
        config = {
            "model_format": "gguf",
            "model_family": model.weights.family,
            "model_type": model.weights.parameter_size,
            "file_type": model.weights.quantization,
            "capabilities": list(model.capabilities),
            "parent": model.parent,
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": self._blob("config", json.dumps(config).encode()),
            "layers": layers,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(manifest))
        temporary.replace(path)
        stored = self._load(path)
        assert stored is not None
        return stored

    def copy(self, source: str, destination: str) -> bool:
        model = self.get(source)
        if model:
            self.put(destination, model)
        return model is not None

    def delete(self, name: str) -> bool:
        path = self._find(names.parse(name))
        if path:
            path.unlink(missing_ok=True)
        return path is not None

    def blob_path(self, digest: str) -> Path:
        return self.root / "blobs" / digest.replace(":", "-")

    def _manifests(self) -> Iterable[Path]:
        paths = (self.root / "manifests").glob("*/*/*/*")
        return (p for p in paths if p.is_file() and not p.name.startswith("."))

    def _path(self, name: names.Name) -> Path:
        return self.root / "manifests" / name.host / name.namespace / name.model / name.tag

    def _find(self, name: names.Name) -> Path | None:
        if not name.valid:
            return None
        exact = self._path(name)
        if exact.is_file():
            return exact
        return next((p for p in self._manifests() if _name_of(p).key == name.key), None)

    def _blob(self, kind: str, data: bytes, *, size: int | None = None) -> Json:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = self.blob_path(digest)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        media = "application/vnd.docker.container.image.v1+json" if kind == "config" else KIND + kind
        return {"mediaType": media, "digest": digest, "size": len(data) if size is None else size}

    def _load(self, path: Path) -> Model | None:
        try:
            stat = path.stat()
            key = (str(path), stat.st_mtime_ns, stat.st_size)
            if key not in self._cache:
                self._cache[key] = self._parse(path, stat.st_mtime_ns)
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return self._cache[key]

    def _parse(self, path: Path, modified: int) -> Model:
        raw = path.read_bytes()
        manifest = json.loads(raw)
        layers = {la["mediaType"].removeprefix(KIND): la["digest"] for la in manifest["layers"]}
        config = json.loads(self.blob_path(manifest["config"]["digest"]).read_bytes())
        texts = {k: self.blob_path(layers[k]).read_text() for k in TEXT_LAYERS if k in layers}
        values = {k: json.loads(self.blob_path(layers[k]).read_bytes()) for k in JSON_LAYERS if k in layers}
        name = _name_of(path)
        return Model(
            weights=Weights(**json.loads(self.blob_path(layers["model"]).read_bytes())),
            capabilities=tuple(config["capabilities"]),
            template=texts.get("template", ""),
            system=texts.get("system", ""),
            parameters=values.get("params", {}),
            messages=tuple(values.get("messages", ())),
            license=texts.get("license", ""),
            parent=config["parent"],
            name=name.short,
            full=name.full,
            digest=hashlib.sha256(raw).hexdigest(),
            blob=layers["model"],
            modified=modified,
        )


def _name_of(path: Path) -> names.Name:
    host, namespace, model, tag = path.parts[-4:]
    return names.Name(host, namespace, model, tag)


def read_described(path: Path) -> dict[str, Model]:
    """Read models from a JSON file; what an entry leaves out is as in the default `llama3.1:8b`."""
    base = defaults()["llama3.1:8b"]
    found = {}
    for name, entry in json.loads(path.read_text()).items():
        weights = replace(base.weights, **entry.get("weights", {}))
        rest = {k: v for k, v in entry.items() if k != "weights"}
        for key in ("capabilities", "messages"):
            if key in rest:
                rest[key] = tuple(rest[key])
        found[name] = replace(base, weights=weights, **rest)
    return found
