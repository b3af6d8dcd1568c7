"""Groups that need no right answer: whether it is the same model, whether it ends, loops, obeys its stop words. Pure.

They work with any model, also with one that knows nothing: each side is held against the other and against itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from rapidfuzz import fuzz

from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.statistics import Limits, chance_of_loss, flips, noise_floor, spread
from orchestrator.checks.answers.terms import Asked, Group, Terms
from orchestrator.stats import wilson

SHAPES = ("weights", "form", "endings", "stop", "defaults")
_LEAST = 8              # prompts, before "not one begins alike" means anything
_STEADY = 0.5           # share of one side's own answers that should begin alike
_GREEDY = 0.95          # alike: also at temperature 0 rounding makes another word now and then
_GOES_ON = 3            # characters that an answer must have before its going on is told


def judge_shape(asked: Sequence[Asked], terms: Terms) -> list[Group]:
    """Judge what the answers have in common, and how they end."""
    steady = [one for one in asked if one.case.ask != "free" and one.both]
    both = [one for one in asked if one.both]
    free = [one for one in asked if one.case.ask == "free" and one.both]
    cut = [one for one in asked if one.cut["ollama"] and one.cut["vllm"]]
    found = [_weights(steady, terms)] if steady else []
    found += [_form(both, terms), _endings(steady, terms)] if both else []
    found += [_stop(cut)] if cut else []
    return found + ([_defaults(free, terms)] if free else [])


def likeness(one: Asked) -> dict[str, float | None]:
    """How alike the texts are, 0..1: between the sides, and within each; None where there is only one answer."""
    pairs = [(a.text, b.text) for a in one.old for b in one.new]
    return {"between": _mean(pairs), "ollama": _mean(_own(one.old)), "vllm": _mean(_own(one.new))}


def _own(replies: Sequence[Reply]) -> list[tuple[str, str]]:
    return [(a.text, b.text) for a, b in combinations(replies, 2)]


def _mean(pairs: Sequence[tuple[str, str]]) -> float | None:
    return round(sum(fuzz.ratio(a, b) for a, b in pairs) / len(pairs) / 100, 4) if pairs else None


def _weights(asked: Sequence[Asked], terms: Terms) -> Group:
    """Two runs of one model begin most answers alike, also after quantising; other weights begin hardly any."""
    usable = [one for one in asked if one.old[0].beginning and one.new[0].beginning]
    alike = sum(one.old[0].beginning == one.new[0].beginning for one in usable)
    own = [a.beginning == b.beginning for one in usable for a, b in combinations(one.old, 2)]
    within = sum(own) / len(own) if own else None
    counted = [one for one in usable if None not in (one.old[0].prompt_tokens, one.new[0].prompt_tokens)]
    offsets = Counter((one.new[0].prompt_tokens or 0) - (one.old[0].prompt_tokens or 0) for one in counted)
    other = sum(count for offset, count in offsets.items() if offset)
    facts = {"alike": alike, "prompts": len(usable), "ollama_with_itself": within,
             "prompt_tokens": {"compared": len(counted), "differ": other,
                               "offsets": {str(key): value for key, value in offsets.most_common(5)}}}  # fmt: skip
    said = f"{alike} of {len(usable)} answers begin alike"
    if len(usable) < _LEAST or (within is not None and within < max(_STEADY, terms.alike)):
        why = f"{said}; Ollama's own do so {within:.0%}" if within is not None else f"{said}: too few to say more"
        return Group("weights", "inconclusive", why, facts=facts)
    if wilson(alike, len(usable)).high < terms.alike:
        return Group("weights", "fail", f"{said}: {_cause(offsets, len(counted))}", facts=facts)
    return Group("weights", "pass", said, facts=facts)


def _cause(offsets: Counter[int], counted: int) -> str:
    """Other prompts make other answers, too: their lengths tell which it is."""
    offset, times = offsets.most_common(1)[0] if offsets else (0, 0)
    if not counted or (offset == 0 and times * 2 > counted):
        return "other weights (the prompts have the same lengths), or not the same model"
    if times == counted:
        return f"the prompts differ by {offset:+d} tokens each: another template, system message or first token"
    return "the prompts have other lengths: another template, system message, or not the same model"


def _form(asked: Sequence[Asked], terms: Terms) -> Group:
    """Empty, cut off, looping, refused: what is wrong with an answer whatever was asked."""
    flaws = [([bool(r.flaw) for r in one.old], [bool(r.flaw) for r in one.new]) for one in asked]
    lost = [one for one, (old, new) in zip(asked, flaws, strict=True) if not any(old) and all(new)]
    gained = sum(all(old) and not any(new) for old, new in flaws)
    names = Counter(one.new[0].flaw for one in lost)
    said = ", ".join(f"{count} {name}" for name, count in names.most_common())
    where = [{"id": one.case.id, "flaw": one.new[0].flaw} for one in lost]
    return _flipped("form", len(lost), gained, flaws, terms, said or "answers are whole on both sides", where)


def _endings(asked: Sequence[Asked], terms: Terms) -> Group:
    """Answers that end by themselves on one side and run into the limit on the other."""
    usable = [one for one in asked if all(r.finish_reason in ("stop", "length") for r in (*one.old, *one.new))]
    cuts = [([r.cut for r in one.old], [r.cut for r in one.new]) for one in usable]
    lost = [one for one, (old, new) in zip(usable, cuts, strict=True) if not any(old) and all(new)]
    gained = sum(all(old) and not any(new) for old, new in cuts)
    on = [told for one in lost if (told := _goes_on(one))]
    said = f"{len(lost)} run into the limit where Ollama ends by itself" if lost else "both sides end alike"
    if on:
        said += f"; {len(on)} go on where it stopped, {_next(on)}: a stop word of the model does not reach vLLM?"
    where = [{"id": one.case.id, "flaw": "runs on"} for one in lost]
    found = _flipped("endings", len(lost), gained, cuts, terms, said, where)
    found.facts["shifts"] = _shifts(asked)
    return found


def _shifts(asked: Sequence[Asked]) -> dict[str, int]:
    """Count the prompts whose reason for ending is another on each side, such as `tool_calls -> stop`."""
    pairs = [(str(one.old[0].finish_reason), str(one.new[0].finish_reason)) for one in asked]
    return dict(Counter(f"{old} -> {new}" for old, new in pairs if old != new))


def _goes_on(one: Asked) -> str:
    old, new = one.old[0].text.rstrip(), one.new[0].text
    return new[len(old) :].lstrip() if len(old) >= _GOES_ON and new.startswith(old) else ""


def _next(rests: Sequence[str]) -> str:
    word, times = Counter(rest.split()[0] for rest in rests if rest.split()).most_common(1)[0]
    return f"{times} of them with {word[:40]!r}"


def _flipped(
    name: str, lost: int, gained: int, sides: Sequence[tuple[list[bool], list[bool]]], terms: Terms, said: str,
    where: list[dict[str, str]],
) -> Group:  # fmt: skip
    again = [side for pair in sides for side in pair if len(side) > 1]
    floor = noise_floor(sum(len(set(side)) > 1 for side in again), len(again))
    times = min((min(len(old), len(new)) for old, new in sides if not any(old) and all(new)), default=1)
    limits = Limits(terms.alpha, terms.loss, len(SHAPES))
    found = flips(lost, gained, len(sides), chance_of_loss(floor, times), limits)
    facts = {**asdict(found), "where": where}
    tail = f"; {gained} the other way round" if gained else ""
    if found.outcome == "pass":
        return Group(name, "pass", said + tail, facts=facts)
    said = f"{lost} of {found.total} prompts: {said}{tail}"
    if found.outcome == "fail":
        return Group(name, "fail", said, facts=facts)
    return Group(name, "inconclusive", said, found.suspicious, facts)


def _stop(asked: Sequence[Asked]) -> Group:
    """No engine that obeys a stop word says it: a single answer that goes on is proof."""
    ignored: list[dict[str, Any]] = []
    for one in asked:
        theirs, ours = (one.stop[side] in one.cut[side][0].text for side in ("ollama", "vllm"))
        always = all(one.stop["vllm"] in reply.text for reply in one.cut["vllm"])
        if ours and always:
            ignored.append({"id": one.case.id, "stop": one.stop["vllm"], "ollama_too": theirs})
    facts = {"prompts": len(asked), "ignored": ignored}
    own = [one for one in ignored if not one["ollama_too"]]
    refused = [one.case.id for one in asked if one.cut["ollama"][0].status == 200 and one.cut["vllm"][0].refused]
    if refused:
        return Group("stop", "fail", f"vLLM refuses a stop word that Ollama takes ({refused[0]})", facts=facts)
    if own:
        first = f"{own[0]['id']} goes on after {own[0]['stop']!r}"
        return Group("stop", "fail", f"{len(own)} of {len(asked)} stop words dropped: {first}", facts=facts)
    if ignored:
        return Group("stop", "pass", f"both sides ignore {len(ignored)} of {len(asked)} stop words", facts=facts)
    return Group("stop", "pass", f"{len(asked)} stop words obeyed", facts=facts)


def _defaults(asked: Sequence[Asked], terms: Terms) -> Group:
    """Without sampling parameters both sides should vary alike."""
    texts = [([r.text for r in one.old if r.text], [r.text for r in one.new if r.text]) for one in asked]
    found = spread(texts)
    if found is None:
        return Group("defaults", "inconclusive", "no prompt was answered twice by both sides")
    facts = {**asdict(found), "prompts": len(asked)}
    said = f"answers without sampling parameters are {found.old:.0%} alike on Ollama, {found.new:.0%} on vLLM"
    if found.p > terms.defaults_alpha or abs(found.new - found.old) < terms.vary:
        return Group("defaults", "pass", said, facts=facts)
    cause = "a higher temperature, or a wider top_p or top_k"
    if found.new > found.old:
        greedy = found.new > _GREEDY
        cause = "temperature 0" if greedy else "a lower temperature, or a narrower top_p or top_k"
    return Group("defaults", "fail", f"{said}: another sampling default ({cause})", facts=facts)
