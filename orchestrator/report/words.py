"""Where two texts differ, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

# Scripts without spaces are compared character by character.
_TOKEN = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\s+|\w+|.", re.DOTALL)
_MOST = 1500
Part = tuple[bool, str]     # whether it differs, the text


def differences(old: str, new: str) -> tuple[list[Part], list[Part]]:
    """Return both texts in parts; the parts of each, joined, are the text. Very long texts are not compared."""
    if old == new:
        return _parts([(False, old)]), _parts([(False, new)])
    one, other = _TOKEN.findall(old), _TOKEN.findall(new)
    if len(one) > _MOST or len(other) > _MOST:
        return _parts([(True, old)]), _parts([(True, new)])
    left: list[Part] = []
    right: list[Part] = []
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        # A blank between two words that differ is no agreement.
        differs = kind != "equal" or (bool(left) and b < len(one) and d < len(other) and "".join(one[a:b]).isspace())
        left.append((differs, "".join(one[a:b])))
        right.append((differs, "".join(other[c:d])))
    return _parts(left), _parts(right)


def _parts(found: list[Part]) -> list[Part]:
    """Join neighbours of one kind; leave empty ones out."""
    joined: list[Part] = []
    for differs, text in found:
        if joined and joined[-1][0] == differs:
            joined[-1] = (differs, joined[-1][1] + text)
        elif text:
            joined.append((differs, text))
    return joined
