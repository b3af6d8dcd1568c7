"""What two renderings of one conversation differ in, by name. Pure: texts and counts in, findings out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.checks.rendering_text import (
    beginnings,
    first_difference,
    is_marker,
    is_slot,
    marked,
    skeleton,
    without_beginning,
    words,
)

Level = Literal["fail", "warn", "note"]
LEVELS: dict[str, Level] = {
    "BOS twice": "fail",
    "BOS missing": "fail",
    "system prompt missing": "fail",
    "system prompt differs": "warn",
    "system prompt added": "warn",
    "message missing": "fail",
    "context truncated": "fail",
    "other template": "fail",
    "generation prompt differs": "fail",
    "thinking switched differently": "warn",
    "tools missing": "fail",
    "other token count": "warn",
    "tools rendered differently": "warn",
    "other tokenizer": "fail",
    # Tolerated, each with its reason.
    "date": "note",
    "whitespace": "note",
    "old BOS twice": "note",
    "old context shorter": "note",
    "tools spelled differently": "note",
}
REASONS = {
    "date": "the template writes a date of its own; it changes without anybody's doing",
    "whitespace": "only spaces and ends of lines differ, as between Go and Jinja templates",
    "old BOS twice": "Ollama's side marks the beginning twice, the new one once, as the model was trained",
    "old context shorter": "the new side reads more of the conversation than Ollama did",
    "tools spelled differently": "the same tools, with other spaces, quotes or order of keys",
}
_THINK = ("<think>", "</think>", "<|think|>", "<|channel|>", "/no_think", "/think", "<thinking>", "</thinking>")
_CUT = 24       # so many characters of a text found alone: its other end was cut


@dataclass(frozen=True, slots=True)
class Rendering:
    """One side's prompt. `tokens`: how many, None if nobody told; `context`: tokens that fit, None if unknown.

    `strings`: the first tokens as vLLM writes them, where it does.
    """

    text: str
    tokens: int | None = None
    strings: tuple[str, ...] = ()
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was to be rendered. `said`: slot -> words, in order; slots are `system`, `user1`, `assistant1`, …"""

    id: str
    said: dict[str, str] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is a key of LEVELS; `old` and `new` show the place, marked, on both sides; `weight` replaces the level."""

    what: str
    conversation: str
    detail: str
    old: str = ""
    new: str = ""
    weight: Level | None = None

    @property
    def level(self) -> Level:
        return self.weight or LEVELS[self.what]

    def to_json(self) -> dict[str, Any]:
        return {"level": self.level, **{key: value for key, value in asdict(self).items() if key != "weight"}}


def compare(said: Conversation, old: Rendering, new: Rendering) -> list[Finding]:
    """Return everything that differs between the two renderings, the gravest first; nothing where they are equal."""
    found = _beginning(said, old, new)
    lost = _lost(said, old, new)
    found += lost
    left, right = without_beginning(old.text), without_beginning(new.text)
    if said.tools:
        found += _tools(said, left, right)      # the other conversations show the template
    else:
        found += _template(said, left, right)
    if not found and left != right:
        found.append(_finding("whitespace", said, "only spaces and ends of lines differ", left, right))
    if not found and left == right and (one := _count(said, old, new)):
        found.append(one)
    order = ("fail", "warn", "note")
    return sorted(_once(found), key=lambda one: order.index(one.level))


def _once(found: Sequence[Finding]) -> list[Finding]:
    kept: dict[str, Finding] = {}
    for one in found:
        kept.setdefault(one.what, one)
    return list(kept.values())


def _finding(what: str, said: Conversation, detail: str, old: str, new: str) -> Finding:
    at = max(first_difference(old, new), 0)
    return Finding(what, said.id, detail, marked(old, at), marked(new, at))


def _beginning(said: Conversation, old: Rendering, new: Rendering) -> list[Finding]:
    marks = [beginnings(old.text), _marks(new)]
    if marks[1] > 1 and marks[0] < marks[1]:
        detail = f"the new side marks the beginning {marks[1]} times"
        return [Finding("BOS twice", said.id, detail, marked(old.text, 0), marked(new.text, 0))]
    if marks[0] > 1 >= marks[1]:
        detail = f"Ollama's side marks the beginning {marks[0]} times"
        return [Finding("old BOS twice", said.id, detail, marked(old.text, 0), marked(new.text, 0))]
    if marks[0] and not marks[1]:
        detail = "the new side's prompt does not begin with the mark that Ollama's begins with"
        return [Finding("BOS missing", said.id, detail, marked(old.text, 0), marked(new.text, 0))]
    return []


def _marks(one: Rendering) -> int:
    """Return the marks of the beginning: any special token that stands there twice is one, too."""
    known = beginnings(one.text)
    first = one.strings[:1]
    if first and is_marker(first[0]) and one.strings[:2] == first * 2:
        return max(known, sum(1 for token in one.strings[:4] if token == first[0]))
    return known


def _lost(said: Conversation, old: Rendering, new: Rendering) -> list[Finding]:
    """Return what was said and stands in one prompt only."""
    found: list[Finding] = []
    gone = [slot for slot, text in said.said.items() if text in old.text and text not in new.text]
    more = [slot for slot, text in said.said.items() if text in new.text and text not in old.text]
    if "system" in gone:
        found.append(_finding("system prompt missing", said, "the words of 'system' are not in the new prompt",
                              old.text, new.text))  # fmt: skip
    if "system" in more:
        detail = "the words of 'system' are in the new prompt alone"
        found.append(_finding("system prompt added", said, detail, old.text, new.text))
    turns = [slot for slot in said.said if slot != "system"]
    lost = [slot for slot in gone if slot != "system"]
    if lost:
        cut = lost == turns[: len(lost)] or any(_part(said.said[slot], new.text) for slot in lost)
        many = f"{len(lost)} of {len(turns)} messages"
        detail = f"{many} are not whole in the new prompt: {', '.join(repr(one) for one in lost[:6])}"
        found.append(_finding("context truncated" if cut else "message missing", said, detail, old.text, new.text))
    extra = [slot for slot in more if slot != "system"]
    if extra:
        detail = f"Ollama's prompt lacks {', '.join(repr(one) for one in extra[:6])}"
        found.append(_finding("old context shorter", said, detail, old.text, new.text))
    return found


def _part(text: str, where: str) -> bool:
    return len(text) > 2 * _CUT and (text[:_CUT] in where) != (text[-_CUT:] in where)


def _template(said: Conversation, old: str, new: str) -> list[Finding]:
    """Return what differs in the words and markers that the template puts around what was said."""
    left, right = (skeleton(text, said.said) for text in (old, new))
    if _same(left) == _same(right):
        return []
    if _slots(left) != _slots(right):       # what was lost took its markers with it
        strange = _markers(left) and not set(_markers(left)) & set(_markers(right))
        return [_finding("other template", said, _told(left, right), old, new)] if strange else []
    (head, body, tail), (head2, body2, tail2) = _cut(left), _cut(right)
    if not _markers(left) + _markers(right) and _same(tail) != _same(tail2):     # a template of words alone
        return [_finding("other template", said, _told(left, right), old, new)]
    found = [_finding(what, said, detail, old, new) for what, detail in _heads(head, head2)]
    if _same(body) != _same(body2):
        found.append(_finding("other template", said, _told(body, body2), old, new))
    if _same(tail) != _same(tail2):
        thinks = [[one for one in part if one in _THINK] for part in (tail, tail2)]
        rest = [[one for one in part if one not in _THINK] for part in (tail, tail2)]
        if thinks[0] != thinks[1] and _same(rest[0]) == _same(rest[1]):
            found.append(_finding("thinking switched differently", said, _told(tail, tail2), old, new))
        elif _markers(body) == _markers(body2) and "other template" not in {one.what for one in found}:
            found.append(_finding("generation prompt differs", said, _told(tail, tail2), old, new))
        else:
            found.append(_finding("other template", said, _told(tail, tail2), old, new))
    return found


def _cut(items: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what stands before the first turn, from there to the last, and after it; the system is no turn."""
    turns = [at for at, item in enumerate(items) if is_slot(item) and item != "{system}"]
    if not turns:
        return items, [], []
    return items[: turns[0]], items[turns[0] : turns[-1] + 1], items[turns[-1] + 1 :]


def _heads(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    """Return what differs before the first turn: another template, or the words of a system prompt of its own."""
    if _same(old) == _same(new):
        return []
    shorter, longer = sorted((_markers(old), _markers(new)), key=len)
    grown = longer[len(longer) - len(shorter) :] == shorter and "{system}" not in (*old, *new)
    if (_markers(old) != _markers(new) and not grown) or _slots(old) != _slots(new):
        return [("other template", _told(old, new))]
    theirs, ours = words(old), words(new)
    if theirs == ours:
        return [("date", _told(old, new))]
    if theirs and not ours:
        return [("system prompt missing", f"the new prompt lacks {_short(theirs)}")]
    if ours and not theirs:
        return [("system prompt added", f"the new prompt has {_short(ours)}")]
    return [("system prompt differs", f"{_short(theirs)} against {_short(ours)}")]


def _tools(said: Conversation, old: str, new: str) -> list[Finding]:
    names = [str(tool["function"]["name"]) for tool in said.tools]
    lost = [name for name in names if name in old and name not in new]
    if lost:
        return [_finding("tools missing", said, f"the new prompt does not name {', '.join(lost)}", old, new)]
    if not any(name in old or name in new for name in names):
        return []
    if "".join(old.split()) == "".join(new.split()):
        return []
    if objects(old) == objects(new) and _same(_around(said, old)) == _same(_around(said, new)):
        return [_finding("tools spelled differently", said, "the same tools in other spelling", old, new)]
    return [_finding("tools rendered differently", said, _told(_around(said, old), _around(said, new)), old, new)]


def _around(said: Conversation, text: str) -> list[str]:
    """Return the skeleton without the tools' own JSON."""
    kept, at = [], 0
    for begin, end, _ in _json(text):
        kept.append(text[at:begin])
        at = end
    return skeleton(" ".join((*kept, text[at:])), said.said)


def objects(text: str) -> list[str]:
    """Return the JSON objects that stand in a text, each in one spelling."""
    return sorted(json.dumps(value, sort_keys=True) for _, _, value in _json(text))


def _json(text: str) -> list[tuple[int, int, Any]]:
    reader = json.JSONDecoder()
    found: list[tuple[int, int, Any]] = []
    at = text.find("{")
    while at >= 0:
        try:
            value, end = reader.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        found.append((at, end, value))
        at = text.find("{", end)
    return found


def _count(said: Conversation, old: Rendering, new: Rendering) -> Finding | None:
    """Return a finding where the same text has another number of tokens.

    One token is the mark of the beginning, which tokenizers add and `rendered_template` does not show; Ollama before
    0.30 counts less than the whole where it had the beginning in its cache.
    """
    if old.tokens is None or new.tokens is None or old.tokens == new.tokens:
        return None
    detail = f"the same text is {old.tokens} tokens for Ollama and {new.tokens} for vLLM"
    if new.tokens - old.tokens == 1 and _marks(new) != 1:
        return Finding("BOS twice", said.id, detail)
    if old.tokens - new.tokens == 1 and not _marks(new):
        return Finding("BOS missing", said.id, detail)
    return Finding("other tokenizer", said.id, detail)


def _same(items: Sequence[str]) -> list[str]:
    """Return items with all white space alike, for comparing."""
    return [" ".join(item.split()) for item in items]


def _markers(items: Sequence[str]) -> list[str]:
    return [item for item in items if is_marker(item)]


def _slots(items: Sequence[str]) -> set[str]:
    return {item for item in items if is_slot(item)}


def _told(old: Sequence[str], new: Sequence[str]) -> str:
    """Return what one side has and the other has not, in words."""
    theirs, ours = [], []
    left, right = _same(old), _same(new)
    for what, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if what != "equal":
            theirs += left[a:b]
            ours += right[c:d]
    return f"Ollama has {_short(' '.join(theirs)) or 'nothing'}, vLLM {_short(' '.join(ours)) or 'nothing'} there"


def _short(text: str, most: int = 120) -> str:
    return (text if len(text) <= most else text[: most - 1] + "…") and f"'{text[:most]}'"
