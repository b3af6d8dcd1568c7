"""Text out of log files as they are found: packed, cut off, in UTF-16, with holes. Reads in bounded memory.

A damaged file gives what comes before the damage, and says so.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

_PIECE = 2**20          # bytes of plain text at once
_SMALL = 4096           # packed bytes at once: what is in a damaged piece is lost
_LONGEST = 64 * 1024    # characters of one line that are kept: a binary file is one endless line
_PACKED: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(31), b"BZh": bz2.BZ2Decompressor, b"\xfd7zXZ\x00": lzma.LZMADecompressor,
}  # fmt: skip
_ZSTD = b"\x28\xb5\x2f\xfd"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Unreadable(Exception):
    """Nothing of the file can be read; the message says why."""


def lines(raw: BinaryIO, damaged: Callable[[str], None]) -> Iterator[str]:
    """Yield the lines of a log file, without their ends; a line longer than 64 KiB comes in pieces.

    `damaged` is told why reading stops early. Raises Unreadable when the form is unknown, and OSError.
    """
    pieces = _unpacked(raw, damaged)
    begin = next(pieces, b"")
    decoder = codecs.getincrementaldecoder(_encoding(begin))(errors="replace")
    left = ""
    for piece in _chain(begin, pieces):
        text = left + decoder.decode(piece)
        *whole, left = text.split("\n")
        yield from whole
        while len(left) > _LONGEST:
            yield left[:_LONGEST]
            left = left[_LONGEST:]
    left += decoder.decode(b"", final=True)
    if left:
        yield left


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _unpacked(raw: BinaryIO, damaged: Callable[[str], None]) -> Iterator[bytes]:
    begin = raw.read(_SMALL)
    if begin.startswith(_ZSTD):
        raise Unreadable("it is packed with zstd: unpack it first, zstd -d")
    make = next((made for mark, made in _PACKED.items() if begin.startswith(mark)), None)
    if make is not None:
        yield from _members(begin, raw, make, damaged)
        return
    yield begin
    while piece := raw.read(_PIECE):
        yield piece


def _members(begin: bytes, raw: BinaryIO, make: Callable[[], Any], damaged: Callable[[str], None]) -> Iterator[bytes]:
    """Yield what is in packed pieces, one after the other: packed files may be joined, and padded with zeros."""
    engine, data = make(), begin
    try:
        while data:
            if piece := engine.decompress(data):
                yield piece
            data = (engine.unused_data if engine.eof else b"") or raw.read(_SMALL)
            while engine.eof and data:
                data = data.lstrip(b"\0")
                if data:
                    engine = make()
                else:
                    data = raw.read(_SMALL)
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise       # of reading, not of the packed text
        damaged(f"its packed text is damaged: {error}")
        return
    if not engine.eof:
        damaged("its packed text ends early")


def _encoding(begin: bytes) -> str:
    """Return the encoding of a text by its first bytes; PowerShell writes UTF-16, with or without a mark."""
    for mark, name in _MARKS:
        if begin.startswith(mark):
            return name
    sample = begin[:512]
    half = len(sample) // 2
    if half >= 8 and sample[1::2].count(0) > 0.7 * half and sample[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if half >= 8 and sample[::2].count(0) > 0.7 * half and sample[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return "utf-8"
