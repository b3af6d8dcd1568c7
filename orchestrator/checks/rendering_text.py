"""Rendered prompts as text: tokens back into characters, and a prompt without what was said in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

# How the beginning of a text is marked, by tokenizer family.
BEGINNINGS = (
    "<|begin_of_text|>", "<s>", "<bos>", "<|begin|>", "<|startoftext|>", "<BOS_TOKEN>", "<|START_OF_TEXT|>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cbegin of sentence\uff5c>", "[BOS]", "<|bos|>",
    "<|beginoftext|>",
)  # fmt: skip
# Special tokens and the tags that templates use as such.
MARKER = re.compile(
    r"<\|[^|<>\s]{1,48}\|>|<\uff5c[^\uff5c<>]{1,48}\uff5c>|</?[A-Za-z][\w\u2581-]{0,40}>|<</?SYS>>|\[/?[A-Za-z][A-Z_]{1,30}\]"
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_DATE = r"(?:\d{4}-\d{2}(?:-\d{2})?|\d{1,2} \w{3,9},? \d{4}|\w{3,9} \d{1,2},? \d{4}|\w{3,9} \d{4})"
_DATES = re.compile(
    rf"(?:Cutting Knowledge|Knowledge [Cc]utoff|Today(?:'s)?|(?:The )?[Cc]urrent)(?: [Dd]ate)?(?: is)?:? *{_DATE}\.?",
    re.ASCII,
)
_ROLES = frozenset(("system", "user", "assistant", "model", "human", "tool", "ipython", "developer", "environment"))
_SPACE = re.compile(r"[^\S\n]*\n\s*|[^\S\n]+")


def _byte_letters() -> dict[str, int]:
    """Return the letters by which byte-level vocabularies (GPT-2's and all after it) write bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [one for one in range(256) if one not in plain]
    return {chr(one): one for one in plain} | {chr(256 + at): one for at, one in enumerate(rest)}


_BYTES = _byte_letters()


def text_of(tokens: Iterable[str]) -> str:
    """Return the text behind vLLM's `token_strs`: byte-level, SentencePiece or plain, special tokens as they are.

    Which of the three it is shows in the letters: a space is written as \u0120, as \u2581 or as itself.
    """
    listed = list(tokens)
    plain = [one for one in listed if not MARKER.fullmatch(one)]
    pieced = any("\u2581" in one for one in plain)
    if not pieced and all(letter in _BYTES for one in plain for letter in one):
        return b"".join(_bytes(one) for one in listed).decode("utf-8", "replace")
    found = b"".join(_piece(one) for one in listed)
    return found.decode("utf-8", "replace")


def _bytes(token: str) -> bytes:
    return token.encode() if MARKER.fullmatch(token) else bytes(_BYTES[letter] for letter in token)


def _piece(token: str) -> bytes:
    if MARKER.fullmatch(token):
        return token.encode()
    one = _BYTE.fullmatch(token)
    return bytes([int(one[1], 16)]) if one else token.replace("\u2581", " ").encode()


def beginnings(text: str) -> int:
    """Return how many marks of the beginning stand at the start of a text."""
    found = 0
    while mark := next((one for one in BEGINNINGS if text.startswith(one)), ""):
        text = text[len(mark) :].lstrip(" ")
        found += 1
    return found


def without_beginning(text: str) -> str:
    """Return a text without the marks of the beginning at its start."""
    while mark := next((one for one in BEGINNINGS if text.startswith(one)), ""):
        text = text[len(mark) :].lstrip(" ")
    return text


def skeleton(text: str, said: Mapping[str, str]) -> list[str]:
    """Return what a template makes of a conversation: markers, and the words between them.

    `said`: slot -> what was said there; each stands in the result as `{slot}`, once, where it was found.
    """
    places = sorted((at, slot) for slot, words in said.items() if words and (at := text.find(words)) >= 0)
    items: list[str] = []
    done = 0
    for at, slot in places:
        if at < done:       # said within what was said before
            continue
        items += _split(text[done:at])
        items.append("{" + slot + "}")
        done = at + len(said[slot])
    return items + _split(text[done:])


def _split(text: str) -> list[str]:
    items: list[str] = []
    done = 0
    for found in MARKER.finditer(text):
        items += [_tidy(text[done : found.start()]), found[0]]
        done = found.end()
    return [one for one in (*items, _tidy(text[done:])) if one]


def _tidy(text: str) -> str:
    """Return words with one space, or one end of a line, between them."""
    return _SPACE.sub(lambda gap: "\n" if "\n" in gap[0] else " ", text).strip()


def is_marker(item: str) -> bool:
    return MARKER.fullmatch(item) is not None


def is_slot(item: str) -> bool:
    return item.startswith("{") and item.endswith("}") and " " not in item


def words(items: Sequence[str]) -> str:
    """Return the words of these items that are neither markers, slots, role names nor dates."""
    kept = []
    for item in items:
        if is_marker(item) or is_slot(item):
            continue
        kept.append(" ".join(word for word in without_dates(item).split() if word.strip(":").lower() not in _ROLES))
    return " ".join(one for one in kept if one)


def without_dates(text: str) -> str:
    """Return a text without lines that tell a date: they change by themselves."""
    return _DATES.sub("", text)


def first_difference(one: str, other: str) -> int:
    """Return the place of the first character that differs; -1 where the texts are equal."""
    if one == other:
        return -1
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def marked(text: str, at: int, before: int = 48, after: int = 72) -> str:
    """Return the part of a text around a place, which `>>>` marks; line ends and tabs as they are written."""
    shown = text[max(0, at - before) : at] + ">>>" + text[at : at + after]
    more = ("…" if at > before else "", "…" if len(text) > at + after else "")
    return more[0] + shown.replace("\n", "\\n").replace("\t", "\\t") + more[1]
