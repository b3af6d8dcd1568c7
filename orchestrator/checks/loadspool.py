"""What answers brought, kept small while a level runs: stamps as plain integers, bytes on disk when there are many.

A chunk as a Python object costs some 400 bytes; a million of them would be 400 MB.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from typing import IO

from orchestrator.clients.wire import Exchange

# So much stays in memory: most levels never touch the disk.
_IN_MEMORY = 32 * 2**20
# An answer still under way is packed once it has so many pieces.
PACK_FROM = 256

Piece = tuple[int, bytes]


class Kept:
    """The pieces of one answer: arrival stamps (ns), sizes, and where their bytes are."""

    __slots__ = ("blocks", "sizes", "stamps")

    def __init__(self) -> None:
        self.stamps = array("q")
        self.sizes = array("Q")
        # How many pieces, and their bytes in memory, or (offset, length) in the file.
        self.blocks: list[tuple[int, bytes | tuple[int, int]]] = []


class Spool:
    """Holds the bytes of one level; `close` forgets them."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._left = in_memory
        self._file: IO[bytes] | None = None
        self._end = 0

    def pack(self, exchange: Exchange, kept: Kept) -> None:
        """Move the pieces that have arrived from the exchange into `kept`."""
        pieces = exchange.pieces
        if not pieces:
            return
        kept.stamps.extend([piece[0] for piece in pieces])
        kept.sizes.extend([len(piece[1]) for piece in pieces])
        block, count = b"".join([piece[1] for piece in pieces]), len(pieces)
        pieces.clear()
        self._left -= len(block)
        kept.blocks.append((count, block if self._left >= 0 else self._write(block)))

    def read(self, kept: Kept) -> Iterator[Piece]:
        """Give the pieces as they arrived."""
        number = 0
        for count, block in kept.blocks:
            data, at = block if isinstance(block, bytes) else self._read(*block), 0
            for _ in range(count):
                size = kept.sizes[number]
                yield kept.stamps[number], data[at : at + size]
                at, number = at + size, number + 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, block: bytes) -> bytes | tuple[int, int]:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the level
            self._file.seek(self._end)
            self._file.write(block)
        except OSError:
            return block        # a full disk is no reason to lose what was measured
        place = (self._end, len(block))
        self._end += len(block)
        return place

    def _read(self, offset: int, length: int) -> bytes:
        assert self._file is not None
        self._file.seek(offset)
        return self._file.read(length)
