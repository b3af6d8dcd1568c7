"""What two renderings of one conversation differ in, by name. Pure: texts and counts in, findings out."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.checks.rendering_findings import Conversation, Finding, Rendering, finding, same, short, told
from orchestrator.checks.rendering_text import (
    beginnings,
    is_marker,
    is_slot,
    marked,
    skeleton,
    without_beginning,
    words,
)
from orchestrator.checks.rendering_tools import tools_of

_THINK = ("<think>", "</think>", "<|think|>", "<|channel|>", "/no_think", "/think", "<thinking>", "</thinking>")
_CUT = 24       # so many characters of a text found alone: its other end was cut


def compare(said: Conversation, old: Rendering, new: Rendering) -> list[Finding]:
    """Return everything that differs between the two renderings, the gravest first; nothing where they are equal."""
    found = _beginning(said, old, new)
    lost = _lost(said, old, new)
    found += lost
    left, right = without_beginning(old.text), without_beginning(new.text)
    if said.tools:
        found += tools_of(said, left, right)      # the other conversations show the template
    else:
        found += _template(said, left, right)
    if not found and left != right:
        found.append(finding("whitespace", said, "only spaces and ends of lines differ", left, right))
    if not found and left == right and (one := _count(said, old, new)):
        found.append(one)
    order = ("fail", "warn", "note")
    return sorted(_once(found), key=lambda one: order.index(one.level))


def _once(found: Sequence[Finding]) -> list[Finding]:
    kept: dict[str, Finding] = {}
    for one in found:
        kept.setdefault(one.what, one)
    return list(kept.values())


def _beginning(said: Conversation, old: Rendering, new: Rendering) -> list[Finding]:
    marks = [_marks(old), _marks(new)]
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
        found.append(finding("system prompt missing", said, "the words of 'system' are not in the new prompt",
                              old.text, new.text))  # fmt: skip
    if "system" in more:
        detail = "the words of 'system' are in the new prompt alone"
        found.append(finding("system prompt added", said, detail, old.text, new.text))
    turns = [slot for slot in said.said if slot != "system"]
    lost = [slot for slot in gone if slot != "system"]
    if lost:
        cut = lost == turns[: len(lost)] or any(_part(said.said[slot], new.text) for slot in lost)
        many = f"{len(lost)} of {len(turns)} messages"
        detail = f"{many} are not whole in the new prompt: {', '.join(repr(one) for one in lost[:6])}"
        found.append(finding("context truncated" if cut else "message missing", said, detail, old.text, new.text))
    extra = [slot for slot in more if slot != "system"]
    if extra:
        detail = f"Ollama's prompt lacks {', '.join(repr(one) for one in extra[:6])}"
        found.append(finding("old context shorter", said, detail, old.text, new.text))
    return found


def _part(text: str, where: str) -> bool:
    return len(text) > 2 * _CUT and (text[:_CUT] in where) != (text[-_CUT:] in where)


def _template(said: Conversation, old: str, new: str) -> list[Finding]:
    """Return what differs in the words and markers that the template puts around what was said."""
    left, right = (skeleton(text, said.said) for text in (old, new))
    if same(left) == same(right):
        return []
    if _slots(left) != _slots(right):       # what was lost took its markers with it
        strange = _markers(left) and not set(_markers(left)) & set(_markers(right))
        return [finding("other template", said, told(left, right), old, new)] if strange else []
    (head, body, tail), (head2, body2, tail2) = _cut(left), _cut(right)
    if not _markers(left) + _markers(right) and same(tail) != same(tail2):     # a template of words alone
        return [finding("other template", said, told(left, right), old, new)]
    found = [finding(what, said, detail, old, new) for what, detail in _heads(head, head2)]
    if same(body) != same(body2):
        found.append(finding("other template", said, told(body, body2), old, new))
    if same(tail) != same(tail2):
        thinks = [[one for one in part if one in _THINK] for part in (tail, tail2)]
        rest = [[one for one in part if one not in _THINK] for part in (tail, tail2)]
        if thinks[0] != thinks[1] and same(rest[0]) == same(rest[1]):
            found.append(finding("thinking switched differently", said, told(tail, tail2), old, new))
        elif _markers(body) == _markers(body2) and "other template" not in {one.what for one in found}:
            found.append(finding("generation prompt differs", said, told(tail, tail2), old, new))
        else:
            found.append(finding("other template", said, told(tail, tail2), old, new))
    return found


def _cut(items: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what stands before the first turn, from there to the last, and after it; the system is no turn."""
    turns = [at for at, item in enumerate(items) if is_slot(item) and item != "{system}"]
    if not turns:
        return items, [], []
    return items[: turns[0]], items[turns[0] : turns[-1] + 1], items[turns[-1] + 1 :]


def _heads(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    """Return what differs before the first turn: another template, or the words of a system prompt of its own."""
    if same(old) == same(new):
        return []
    shorter, longer = sorted((_markers(old), _markers(new)), key=len)
    grown = longer[len(longer) - len(shorter) :] == shorter and "{system}" not in (*old, *new)
    if (_markers(old) != _markers(new) and not grown) or _slots(old) != _slots(new):
        return [("other template", told(old, new))]
    theirs, ours = words(old), words(new)
    if theirs == ours:      # dates, or a system's turn that holds nothing else
        more = shorter == longer or any("system" in item.lower() for item in {*old} ^ {*new})
        return [("date" if more else "other template", told(old, new))]
    if theirs and not ours:
        return [("system prompt missing", f"the new prompt lacks {short(theirs)}")]
    if ours and not theirs:
        return [("system prompt added", f"the new prompt has {short(ours)}")]
    return [("system prompt differs", f"{short(theirs)} against {short(ours)}")]


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


def _markers(items: Sequence[str]) -> list[str]:
    return [item for item in items if is_marker(item)]


def _slots(items: Sequence[str]) -> set[str]:
    return {item for item in items if is_slot(item)}
