"""The report as one HTML file: no script, no network; every figure carries the place in report.json it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator.rendering.environment import template_root
from orchestrator.report import svg
from orchestrator.report.figures import resolve, step
from orchestrator.report.words import differences


def page(report: dict[str, Any], template: str = "report") -> str:
    """Return the page of a report; `template`: report, or load for one load test alone."""
    environment = Environment(
        loader=FileSystemLoader(template_root()), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=True,
    )  # fmt: skip
    view = _View(report)
    environment.globals.update(
        f=view.figure, at=view.at, each=view.each, sub=step, both=view.both, chart=view.chart, bar=view.bar,
        steps=view.steps,
    )  # fmt: skip
    return environment.get_template(f"report/{template}.html.j2").render(report=report)


class _View:
    """What the template may do with the report: everything by JSON pointer."""

    def __init__(self, report: dict[str, Any]) -> None:
        self._report = report

    def at(self, pointer: str) -> Any:
        return resolve(self._report, pointer)

    def each(self, pointer: str) -> Iterator[tuple[str, Any]]:
        """Give (pointer, value) of each element of the list or object there."""
        value = self.at(pointer)
        keys = value.keys() if isinstance(value, dict) else range(len(value or ()))
        for key in keys:
            yield step(pointer, key), value[key]

    def figure(self, pointer: str, unit: str = "", none: str = "\u2013") -> Markup:
        """Return the value there as the page shows it, with its pointer; `none` where there is no value."""
        value = self.at(pointer)
        if value is None or value == "":
            return Markup('<span class="none">{}</span>').format(none)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        shown = Markup('<span data-path="{}">{}</span>').format(pointer, text)
        return shown + Markup('<span class="unit"> {}</span>').format(unit) if unit else shown

    def both(self, old: str, new: str) -> tuple[Markup, Markup]:
        """Return both texts, marked where they differ."""
        left, right = differences(str(self.at(old)), str(self.at(new)))
        return self._marked(old, left, Markup("<del>{}</del>")), self._marked(new, right, Markup("<ins>{}</ins>"))

    def _marked(self, pointer: str, parts: list[tuple[bool, str]], tag: Markup) -> Markup:
        inner = Markup("").join(
            tag.format(text) if differs else escape(text) for differs, text in parts
        )
        return Markup('<bdi class="text" data-path="{}">{}</bdi>').format(pointer, inner)

    def chart(self, pointer: str) -> Markup:
        return svg.chart(self.at(pointer), pointer)

    def bar(self, pointer: str) -> Markup:
        return svg.bar(self.at(pointer), pointer)

    def steps(self, pointer: str) -> Markup:
        return svg.steps(self.at(pointer), pointer)
