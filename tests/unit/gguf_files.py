"""Makes GGUF files and Ollama folders for tests."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

TYPES = {"u8": (0, "B"), "i8": (1, "b"), "u16": (2, "H"), "i16": (3, "h"), "u32": (4, "I"), "i32": (5, "i"),
         "f32": (6, "f"), "bool": (7, "?"), "str": (8, ""), "u64": (10, "Q"), "i64": (11, "q"), "f64": (12, "d")}


class GgufFile:
    def __init__(self, order: str = "<", version: int = 3) -> None:
        self.order, self.version = order, version
        self.keys: list[bytes] = []
        self.tensors: list[bytes] = []

    def pack(self, code: str, *values: Any) -> bytes:
        return struct.pack(self.order + code, *values)

    def text(self, text: str) -> bytes:
        return self.pack("Q", len(text.encode())) + text.encode()

    def value(self, kind: str, value: Any) -> bytes:
        return self.text(value) if kind == "str" else self.pack(TYPES[kind][1], value)

    def raw(self, name: str, data: bytes) -> GgufFile:
        self.keys.append(self.text(name) + data)
        return self

    def add(self, name: str, kind: str, value: Any) -> GgufFile:
        return self.raw(name, self.pack("I", TYPES[kind][0]) + self.value(kind, value))

    def array(self, name: str, kind: str, values: list[Any]) -> GgufFile:
        head = self.pack("IIQ", 9, TYPES[kind][0], len(values))
        return self.raw(name, head + b"".join(self.value(kind, one) for one in values))

    def tensor(self, name: str, shape: tuple[int, ...], kind: int) -> GgufFile:
        sides = b"".join(self.pack("Q", side) for side in shape)
        self.tensors.append(self.text(name) + self.pack("I", len(shape)) + sides + self.pack("IQ", kind, 0))
        return self

    def bytes(self) -> bytes:
        head = b"GGUF" + self.pack("IQQ", self.version, len(self.tensors), len(self.keys))
        return head + b"".join(self.keys) + b"".join(self.tensors)


class OllamaFolder:
    """A models folder; a layer is (kind, bytes or text or JSON)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs").mkdir(parents=True)
        (root / "manifests").mkdir()

    def blob(self, content: Any) -> dict[str, Any]:
        data = content if isinstance(content, bytes) else (
            content.encode() if isinstance(content, str) else json.dumps(content).encode())
        name = hashlib.sha256(data).hexdigest()
        (self.root / "blobs" / f"sha256-{name}").write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    def model(self, name: str, config: dict[str, Any], layers: list[tuple[str, Any]], **extra: Any) -> Path:
        """`name` is host/namespace/model/tag."""
        listed = [{"mediaType": f"application/vnd.ollama.image.{kind}", **self.blob(content), **extra.get(kind, {})}
                  for kind, content in layers]
        manifest = {"schemaVersion": 2, "config": self.blob(config), "layers": listed}
        path = self.root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest))
        return path
