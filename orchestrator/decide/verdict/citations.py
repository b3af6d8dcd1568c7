"""What the articles measured or advise, beside this load: printed as theirs, with source, hardware and date."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from orchestrator.decide.cited import Advice, Figure, Source, cited

HEADING = "Cited, not measured here"
_USERS = re.compile(r"(\d+)(?:-(\d+))? (?:at once|users?\b)")


def figure_lines(at_once: float | None) -> list[str]:
    """Return one figure per article, the nearest to so many requests at once; for an unknown load, that of one user."""
    wanted = max(1.0, at_once or 1.0)
    best: dict[str, tuple[float, Figure]] = {}
    for one in cited().figures:
        away = _away(one.what, wanted)
        if away is not None and (one.source.id not in best or away < best[one.source.id][0]):
            best[one.source.id] = (away, one)
    return [
        f"{_from(one.source, one.where)}: {one.what}: Ollama {one.ollama}, vLLM {one.vllm}"
        for _, one in sorted(best.values(), key=lambda item: item[1].source.id)
    ]


def advice_lines(engine: str, names: Iterable[str] = ()) -> list[str]:
    """Return what the articles advise for `ollama` or `vllm`, and what was checked; sources are listed elsewhere.

    `names`: variables of Ollama that are at issue; advice on other ones is left out.
    """
    known = set(names)
    return [
        f"{one.source.id}: {one.text}. Checked: {one.checked}"
        for one in cited().settings
        if one.engine == engine and _concerns(one, known)
    ]


def _concerns(one: Advice, names: set[str]) -> bool:
    variables = re.findall(r"OLLAMA_\w+", one.text)
    return not variables or not names or any(name in names for name in variables)


def _away(what: str, wanted: float) -> float | None:
    """Return how far a figure is from a load, as a ratio's logarithm; None where it is about no load."""
    found = _USERS.search(what)
    if not found:
        return None
    low = float(found[1])
    high = float(found[2] or low)
    return 0.0 if low <= wanted <= high else min(abs(math.log(wanted / end)) for end in (low, high))


def _from(source: Source, where: str) -> str:
    hardware = where or source.hardware
    told = "hardware not stated" if hardware == "not stated" else hardware
    return f"{source.id} ({told}; {source.date})"
