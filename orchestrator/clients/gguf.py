"""Reads the header of a GGUF file: metadata and tensor table, never the weights.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Versions 2 and 3, either byte order.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.errors import MigrateError

LIMIT = 48 * 2**20      # the largest vocabularies need about 16 MiB
KEPT = 1024             # longer arrays (tokens, scores, merges) are passed over; only their length is kept
_CHUNK = 2**20
_DEEPEST = 4            # arrays in arrays
_MOST_SIDES = 8         # ggml has 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# ggml type -> name, weights per block, bytes per block (ggml.h, ggml-common.h).
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
}  # fmt: skip
# general.file_type -> the name of the quantisation (llama.h, llama_ftype).
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the tensor table; bytes is None for a type that is not known here."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the weights.

    values: metadata; an array of more than KEPT elements is None, and its length is in `lengths`.
    complete: whether all of the tensor table lay within the bound.
    """

    version: int
    values: dict[str, Any]
    lengths: dict[str, int] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()
    complete: bool = True

    @property
    def quantization(self) -> str:
        """Ollama's name of general.file_type, or empty."""
        told = self.values.get("general.file_type")
        return FILE_TYPES.get(told, "") if isinstance(told, int) else ""

    @property
    def weights(self) -> int | None:
        """Bytes of all tensors; None when the table is cut short or has a type that is not known."""
        sizes = [one.bytes for one in self.tensors if one.bytes is not None]
        return sum(sizes) if self.complete and len(sizes) == len(self.tensors) else None


class Malformed(Exception):
    """The bytes are no GGUF header; the message says where and why."""


class BeyondBound(Exception):
    """The header goes on behind the bound."""


class _Reader:
    """Numbers and strings out of the first `limit` bytes, fetched a chunk at a time."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.stream, self.limit, self.at = stream, limit, 0
        self.buffer = bytearray()
        self.order = "<"

    def skip(self, size: int) -> int:
        """Move on by `size` bytes, which must be there; returns where they begin."""
        start, end = self.at, self.at + size
        if end > self.limit:
            raise BeyondBound(f"the header goes on behind {self.limit} bytes")
        while len(self.buffer) < end:
            chunk = self.stream.read(min(_CHUNK, self.limit - len(self.buffer)))
            if not chunk:
                raise Malformed(f"it ends after {len(self.buffer)} bytes, within its header")
            self.buffer += chunk
        self.at = end
        return start

    def number(self, code: str) -> Any:
        code = self.order + code
        return struct.unpack_from(code, self.buffer, self.skip(struct.calcsize(code)))[0]

    def string(self) -> str:
        size = self.number("Q")
        start = self.skip(size)
        return self.buffer[start : start + size].decode("utf-8", errors="replace")

    def scalar(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            raise Malformed(f"value type {kind} at byte {self.at} does not exist")
        if kind == 7:     # any byte that is not zero
            return bool(self.number("B"))
        found = self.number(_SCALARS[kind])
        return None if isinstance(found, float) and not math.isfinite(found) else found

    def array(self, depth: int = 0) -> tuple[list[Any] | None, int]:
        """Return the elements (None if there are more than KEPT) and how many there are."""
        if depth > _DEEPEST:
            raise Malformed(f"arrays nest deeper than {_DEEPEST} at byte {self.at}")
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY:
            nested = [self.array(depth + 1)[0] for _ in self._bounded(count, 12)]
            return (nested if count <= KEPT else None), count
        if count <= KEPT:
            return [self.scalar(kind) for _ in range(count)], count
        if kind == _STRING:
            for _ in self._bounded(count, 8):
                self.skip(self.number("Q"))
        elif kind in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[kind]))
        else:
            raise Malformed(f"value type {kind} at byte {self.at} does not exist")
        return None, count

    def _bounded(self, count: int, least: int) -> range:
        if count * least > self.limit:
            raise BeyondBound(f"an array of {count} elements at byte {self.at} does not fit into {self.limit} bytes")
        return range(count)


def read(path: Path, limit: int = LIMIT) -> Header:
    """Read at most `limit` bytes of `path`; raises MigrateError with the reason when it is no readable GGUF."""
    try:
        with path.open("rb") as stream:
            return parse(stream, limit)
    except OSError as error:
        why = error.strerror or str(error)
        raise MigrateError(f"cannot read {path}: {why}", hint="run it as a user who may read this file") from error
    except (Malformed, BeyondBound) as error:
        hint = "download the model again: ollama pull"
        raise MigrateError(f"{path} is not a GGUF file that can be read: {error}", hint=hint) from error


def parse(stream: BinaryIO, limit: int = LIMIT) -> Header:
    """Read a header; raises Malformed, or BeyondBound when the bound cuts the metadata (not the tensor table)."""
    reader = _Reader(stream, limit)
    version, tensors, keys = _begin(reader)
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(keys):
        name, kind = reader.string(), reader.number("I")
        if kind == _ARRAY:
            values[name], lengths[name] = reader.array()
        else:
            values[name] = reader.scalar(kind)
    table: list[Tensor] = []
    try:
        for _ in range(tensors):
            table.append(_tensor(reader))  # noqa: PERF401 - what came before the bound is kept
    except BeyondBound:
        return Header(version, values, lengths, tuple(table), complete=False)
    return Header(version, values, lengths, tuple(table))


def _begin(reader: _Reader) -> tuple[int, int, int]:
    start = reader.skip(4)
    magic = bytes(reader.buffer[start : start + 4])
    if magic != b"GGUF":
        raise Malformed(f"it begins with {magic!r} instead of b'GGUF'")
    version = reader.number("I")
    if version & 0xFFFF == 0:       # its bytes are swapped
        reader.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in (2, 3):
        raise Malformed(f"its GGUF version is {version}; 2 and 3 can be read")
    return version, reader.number("Q"), reader.number("Q")


def _tensor(reader: _Reader) -> Tensor:
    name, sides = reader.string(), reader.number("I")
    if sides > _MOST_SIDES:
        raise Malformed(f"tensor {name[:80]!r} has {sides} dimensions")
    shape = tuple(reader.number("Q") for _ in range(sides))
    kind = reader.number("I")
    reader.number("Q")      # where its weights begin
    known = TYPES.get(kind)
    if known is None:
        return Tensor(name, shape, f"type {kind}", None)
    label, block, size = known
    return Tensor(name, shape, label, -(-math.prod(shape) // block) * size)
