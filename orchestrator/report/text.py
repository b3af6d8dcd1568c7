"""The report for a terminal: 80 columns, no colour, the same order as the page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

WIDTH = 80
_MARKS = {"pass": "+", "fail": "!", "inconclusive": "?", "open": "-"}
_NAMES = {"ollama": "Ollama", "vllm": "vLLM"}


def summary(report: dict[str, Any]) -> str:
    """Return the report in lines of at most 80 columns."""
    head = report["headline"]
    lines = [*_wrap(f"Report on the stack {report['stack']}, {report['made_at']} UTC"), ""]
    lines += _wrap(f"{_MARKS[head['result']]} {head['text']}", "  ")
    for part in (_routes, _decision, _surfaces, _answers, _loads, _live, _missing):
        lines += part(report)
    lines += ["", *_wrap(f"next: {head['next']}")]
    return "\n".join(lines)


def _routes(report: dict[str, Any]) -> Iterator[str]:
    for route in report["routes"]:
        share = "" if route["weight"] is None else f", {route['weight']:g} % of new requests on vLLM"
        yield ""
        yield from _wrap(f"{route['model']}: {route['state']}{share}")
        for gate in route["gates"]:
            yield from _wrap(f"  {_MARKS[gate['result']]} {gate['check']:<9} {gate['summary']}", " " * 14)


def _decision(report: dict[str, Any]) -> Iterator[str]:
    found = report["decision"]
    if found:
        yield from _heading(f"Why: {found['verdict']}{', by --force' if found['forced'] else ''}")
        for one in found["reasons"]:
            yield from _wrap(f"  [{one['evidence']}] {one['text']}", "    ")


def _surfaces(report: dict[str, Any]) -> Iterator[str]:
    for one in report["surfaces"]:
        yield from _heading(f"{one['check'].capitalize()} of {one['target']}")
        yield from _wrap(f"  {one['same']} of {one['count']} the same on both sides", "  ")
        for row in one["rows"]:
            if row["word"] in ("differs", "fail", "no answer", "warn"):
                yield from _wrap(f"  ! {row['what']} ({row['group']}): {row['why']}", "    ")


def _answers(report: dict[str, Any]) -> Iterator[str]:
    for one in report["answers"]:
        if one["kind"] != "parity":
            continue
        yield from _heading(f"Answers of {one['target']}")
        yield from _wrap(f"  {one['count']} compared, {one['same']} word for word the same, "
                         f"{one['failed']} worse on vLLM", "  ")  # fmt: skip
        for group in one["groups"]:
            yield from _wrap(f"  {_MARKS.get(group['result'], '-')} {group['name']:<12} {group['summary']}", " " * 17)
        for prompt in one["differ"]:
            if prompt["level"] == "fail":
                for text in prompt["findings"]:
                    yield from _wrap(f"  ! {prompt['prompt']}: {text}", "    ")


def _loads(report: dict[str, Any]) -> Iterator[str]:
    for one in report["loads"]:
        by = ", by hand" if one["by_hand"] else ""
        yield from _heading(f"Load on {one['target']}{by} (ms; - : too few requests)")
        yield "  users  side    first p50  first p95   answer p50  answer p95  tokens/s  failed"
        for level in one["levels"]:
            if not level["users"]:
                yield f"  {level['label']}"
            for side, name in _NAMES.items():
                row = level[side]
                if not row["n"]:
                    continue
                cells = [_cell(row[key][q]["value"], width) for key, q, width in (
                    ("ttft", "p50", 9), ("ttft", "p95", 9), ("e2e", "p50", 11), ("e2e", "p95", 10))]  # fmt: skip
                failed = _cell(row["failed_percent"], 4)
                users = _cell(level["users"] or None, 5)
                yield (f"  {users}  {name:<6}  {cells[0]}  {cells[1]}  {cells[2]}  {cells[3]}  "
                       f"{_cell(row['tokens_per_s'], 8)}  {failed} %")  # fmt: skip


def _live(report: dict[str, Any]) -> Iterator[str]:
    if report["live"]:
        yield from _heading("Live traffic (ms)")
    for one in report["live"]:
        new, old = one["vllm"], one["ollama"]
        yield from _wrap(
            f"  {_MARKS.get(one['result'], '-')} {one['weight']:g} %: {one['reason']}; median total "
            f"{_cell(new['e2e_p50'], 0)} on vLLM, {_cell(old['e2e_p50'], 0)} on Ollama", "    ")  # fmt: skip


def _missing(report: dict[str, Any]) -> Iterator[str]:
    if report["missing"]:
        yield from _heading("Not there yet")
    for one in report["missing"].values():
        yield from _wrap(f"  {one['why']} Run: {one['run']}", "    ")


def _heading(text: str) -> list[str]:
    return ["", *_wrap(text)]


def _cell(value: Any, width: int) -> str:
    return f"{'-' if value is None else format(value, 'g') if isinstance(value, float) else value:>{width}}"


def _wrap(text: str, indent: str = "") -> list[str]:
    flat = " ".join(text.splitlines())
    lead = flat[: len(flat) - len(flat.lstrip())]
    return textwrap.wrap(
        flat.lstrip(), WIDTH, initial_indent=lead, subsequent_indent=indent, break_on_hyphens=False
    ) or [""]
