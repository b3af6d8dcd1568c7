"""A GPU's memory as one line of letters, for the printed plan. Pure text, no colour."""

from __future__ import annotations

from orchestrator.decide.vram import GpuBudget, gib

_LEGEND = {
    "x": "others", "O": "Ollama", "v": "vLLM weights", "l": "LoRA and drafts", "k": "KV cache",
    "a": "activations and graphs",
    "m": "margin and context", ".": "free",
}  # fmt: skip


def bar(budget: GpuBudget, width: int = 60) -> str:
    """Return `|OOOOvvvvvkkkk....|` and a legend with sizes; every part that exists has at least one letter.

    What does not fit is drawn past the closing bar as `!`.
    """
    width = max(12, width)
    parts = _parts(budget)
    total = max(1, budget.total)
    taken = sum(size for _, size in parts)
    cells = _cells(parts, width if taken >= total else max(1, round(width * taken / total)))
    line = "".join(cells)
    free = "." * max(0, width - len(line)) if taken < total else ""
    over = "!" * min(width, max(1, round(width * (taken - total) / total))) if taken > total else ""
    sums: dict[str, int] = {}
    for letter, size in [*parts, (".", max(0, total - taken))]:
        sums[letter] = sums.get(letter, 0) + size
    legend = [f"{letter} {_LEGEND[letter]} {gib(size)}" for letter, size in sums.items() if size > 0]
    if taken > total:
        legend.append(f"! {gib(taken - total)} too much")
    return f"GPU {budget.gpu} |{line}{free}|{over} {gib(budget.total)}\n  {', '.join(legend)}"


def _parts(budget: GpuBudget) -> list[tuple[str, int]]:
    """Return (letter, bytes) in the order in which they are drawn; engines one after the other."""
    found = [("x", budget.others), ("O", budget.ollama)]
    for share in budget.shares:
        work = share.activations + share.graphs
        extra = share.ask.beside()
        rest = max(0, share.requested - share.needed) + share.ask.context()
        found += [("v", share.weights), ("l", extra), ("k", share.kv), ("a", work), ("m", rest)]
    return [(letter, size) for letter, size in found if size > 0]


def _cells(parts: list[tuple[str, int]], count: int) -> list[str]:
    """Share `count` letters out by size (largest remainders), at least one to each part."""
    if not parts:
        return []
    count = max(count, len(parts))
    total = sum(size for _, size in parts)
    exact = [size * count / total for _, size in parts]
    given = [max(1, int(one)) for one in exact]
    while sum(given) > count:
        given[max(range(len(given)), key=lambda at: (given[at] > 1, given[at] - exact[at]))] -= 1
    while sum(given) < count:
        given[max(range(len(given)), key=lambda at: exact[at] - given[at])] += 1
    return [letter * times for (letter, _), times in zip(parts, given, strict=True)]
