"""The events that say one more word and nothing else, read without parsing: almost all of a stream.

In one stream they differ in the word alone (and in its number, where numbers are asked for), so what stands around it
is learnt from one that was parsed. Whatever looks different is parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.adapter.pieces import Piece

_MARKS = (b'"content":"', b'"text":"')
_NUMBER = b'"token_ids":['
_STRING = re.compile(rb'(?:[^"\\]|\\.)*', re.DOTALL)
_ODD = re.compile(rb"[\x00-\x1f]|\\(?![\"\\/bfnrt])")     # no JSON, or not for this quick way


@dataclass(frozen=True, slots=True)
class Shape:
    """What stands before and after the word; with numbers `middle` stands between word and number."""

    head: bytes
    tail: bytes
    middle: bytes = b""

    def word(self, event: bytes) -> tuple[str, int | None] | None:
        """Return the word as JSON writes it, without quotes, and its number; None for any other event."""
        if not (event.startswith(self.head) and event.endswith(self.tail)):
            return None
        start, end = len(self.head), len(event) - len(self.tail)
        number = None
        if self.middle:
            cut = event.rfind(self.middle, start, end)
            digits = event[cut + len(self.middle) : end]
            if cut < 0 or not digits.isdigit():
                return None
            end, number = cut, int(digits)
        if start > end:
            return None
        said = event[start:end]
        if b'"' in said and not _STRING.fullmatch(said):
            return None
        if _ODD.search(said):
            return None
        try:
            return said.decode(), number
        except UnicodeDecodeError:
            return None


def learn(event: bytes, piece: Piece) -> Shape | None:
    """Return the shape of an event that was parsed, when it says a word and nothing else."""
    if not piece.content or not piece.is_plain or len(piece.token_ids) > 1:
        return None
    found = [(mark, event.find(mark)) for mark in _MARKS if event.count(mark) == 1]
    if len(found) != 1:
        return None
    mark, at = found[0]
    start = at + len(mark)
    said = _STRING.match(event, start)
    assert said is not None
    head, tail = event[:start], event[said.end() :]
    if not piece.token_ids:
        return Shape(head, tail)
    cut = tail.find(_NUMBER)
    closing = tail.find(b"]", cut)
    if cut < 0 or tail[cut + len(_NUMBER) : closing] != str(piece.token_ids[0]).encode():
        return None
    return Shape(head, tail[closing:], tail[: cut + len(_NUMBER)])
