"""The plan for people: seven questions in the order in which they are asked."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Report:
    """Lines already computed, one string each; empty: the section says that nothing is known or needed.

    `where` is one line per route, `vram` inequality and bar per GPU, `clients` the approximations,
    `time` the lines of `eta.lines`, `stays` what remains on Ollama and why.
    """

    verdict: str
    why: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    vram: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    next: str = ""
    handover: tuple[str, ...] = ()      # printed only where there is one


def readable(report: Report) -> str:
    """Return the whole text, at most 100 columns wide, with plain headings."""
    verdict = report.verdict.strip() or "No verdict: nothing was decided"
    unchanged = "Nothing: address, port, model names and API stay as they are."
    except_for = "Good to know:" if report.clients else ""
    sections = (
        ("Verdict", (verdict, *_items(report.why))),
        ("What will run where", report.where or ("Nothing moves.",)),
        ("How much VRAM each gets, and why", report.vram or ("No GPU is used.",)),
        ("What changes for my clients", (unchanged, except_for, *_items(report.clients))),
        ("How long it takes", report.time or ("Not known.",)),
        ("How do I go back", report.back or ("Nothing was changed: there is nothing to undo.",)),
        ("What stays on Ollama", report.stays or ("Nothing but the way back.",)),
        *((("Hand-over", report.handover),) if report.handover else ()),
        ("Next", (report.next or "nothing",)),
    )
    return "\n\n".join("\n".join([heading, *_body(lines)]) for heading, lines in sections)


def _items(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"- {line}" for line in lines if line.strip())


def _body(lines: tuple[str, ...]) -> list[str]:
    return [wrapped for line in lines for part in line.splitlines() if part.strip() for wrapped in _wrap(part)]


def _wrap(line: str) -> list[str]:
    """Indent, and wrap only what is too wide: aligned columns and bars stay as they are."""
    full = f"  {line.rstrip()}"
    if len(full) <= WIDTH:
        return [full]
    deep = " " * (len(full) - len(full.lstrip()) + 2)
    return textwrap.wrap(full, WIDTH, subsequent_indent=deep, drop_whitespace=True, break_on_hyphens=False)
