"""The report's drawings, as inline SVG. Sides differ by colour, line and mark, never by colour alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from orchestrator.report.figures import step

_NAMES = {"ollama": "Ollama", "vllm": "vLLM"}
_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 4, 12, 36
_Scale = Callable[[float], float]


def chart(data: dict[str, Any], pointer: str) -> Markup:
    """Return curves over concurrent users; whiskers are the intervals of the figures."""
    x, y = _across(data["x_ticks"]), _up(data["y_ticks"], log=data["log"])
    parts = [_grid(data, pointer, x, y)]
    parts += [_series(one, x, y) for one in data["series"]]
    parts += _ends(data["series"], pointer, x, y)
    label = f"{data['title']} in {data['unit']} over concurrent users, Ollama and vLLM"
    return _drawing(_WIDTH, _HEIGHT, label, Markup("").join(parts), "chart")


def _across(marks: Sequence[float]) -> _Scale:
    first, last = math.log(min(marks)), math.log(max(marks))
    width = _WIDTH - _LEFT - _RIGHT - 56        # room for the figure at the end of a curve
    return lambda value: _LEFT + 8 + (width * (math.log(value) - first) / (last - first) if last > first else width / 2)


def _up(marks: Sequence[float], *, log: bool) -> _Scale:
    height = _HEIGHT - _TOP - _BOTTOM
    place: Callable[[float], float] = math.log if log else float
    low, high = place(marks[0]), place(marks[-1])
    return lambda value: _TOP + height * (1 - (place(value) - low) / (high - low or 1))


def _grid(data: dict[str, Any], pointer: str, x: _Scale, y: _Scale) -> Markup:
    parts = []
    for at, mark in enumerate(data["y_ticks"]):
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, _WIDTH - _RIGHT, y(mark), y(mark)))  # fmt: skip
        parts.append(_label(_LEFT - 6, y(mark) + 4, mark, step(pointer, "y_ticks", at), "end"))
    last = -99.0
    for at, mark in enumerate(data["x_ticks"]):
        if x(mark) - last >= 18:
            parts.append(_label(x(mark), _HEIGHT - _BOTTOM + 17, mark, step(pointer, "x_ticks", at), "middle"))
            last = x(mark)
    parts.append(Markup('<text class="axis" x="{}" y="{}" text-anchor="end">concurrent users</text>').format(
        _WIDTH - _RIGHT, _HEIGHT - 4))  # fmt: skip
    scale = f"{data['unit']}, log scale" if data["log"] else data["unit"]
    parts.append(Markup('<text class="axis" x="0" y="{}">{}</text>').format(_HEIGHT - 4, scale))
    return Markup("").join(parts)


def _label(x: float, y: float, value: float, pointer: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}" data-path="{}">{}</text>').format(
        kind, x, y, anchor, pointer, f"{value:g}" if isinstance(value, float) else value)  # fmt: skip


def _series(one: dict[str, Any], x: _Scale, y: _Scale) -> Markup:
    side, points = one["side"], [point for point in one["points"] if point["y"] > 0]
    parts = [
        Markup('<line class="whisker" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>').format(
            x(point["x"]), y(point["low"]), y(point["high"]))
        for point in points if point["low"] and point["high"]
    ]  # fmt: skip
    line = " ".join(f"{x(point['x']):.1f},{y(point['y']):.1f}" for point in points)
    parts.append(Markup('<polyline points="{}"/>').format(line))
    parts += [_mark(side, x(point["x"]), y(point["y"])) for point in points]
    return Markup('<g class="{}">{}</g>').format(side, Markup("").join(parts))


def _mark(side: str, x: float, y: float) -> Markup:
    if side == "vllm":
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"/>').format(x, y)
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="6.4" height="6.4"/>').format(x - 3.2, y - 3.2)


def _ends(series: Sequence[dict[str, Any]], pointer: str, x: _Scale, y: _Scale) -> list[Markup]:
    """Write the last figure of each curve beside it, apart where they would lie on one another."""
    found: list[tuple[str, float, float, float, str]] = []
    for at, one in enumerate(series):
        points = [(n, point) for n, point in enumerate(one["points"]) if point["y"] > 0]
        if points:
            n, point = points[-1]
            found.append((one["side"], x(point["x"]) + 8, y(point["y"]) + 4, point["y"],
                          step(pointer, "series", at, "points", n, "y")))  # fmt: skip
    found.sort(key=lambda one: one[2])
    if len(found) == 2 and found[1][2] - found[0][2] < 13:
        middle = (found[0][2] + found[1][2]) / 2
        found = [(*found[0][:2], middle - 7, *found[0][3:]), (*found[1][:2], middle + 7, *found[1][3:])]
    return [_label(left, top, value, where, "start", f"end {side}") for side, left, top, value, where in found]


def bar(gpu: dict[str, Any], pointer: str) -> Markup:
    """Return one GPU's memory as a bar of its parts, to scale."""
    total = max(gpu["total"], sum(part["gib"] for part in gpu["parts"])) or 1
    left, parts = 0.0, []
    for at, part in enumerate(gpu["parts"]):
        width = 720 * part["gib"] / total
        parts.append(Markup('<rect class="m-{}" x="{:.1f}" y="0" width="{:.1f}" height="34"/>').format(
            part["kind"], left, max(width, 1.0)))  # fmt: skip
        if width > 80:      # wide enough also where a small screen makes the letters larger
            parts.append(_label(left + width / 2, 22, part["gib"], step(pointer, "parts", at, "gib"), "middle",
                                f"on-{part['kind']}"))  # fmt: skip
        left += width
    label = f"Memory of GPU {gpu['gpu']}: " + ", ".join(f"{part['what']} {part['gib']:g} GiB" for part in gpu["parts"])
    return _drawing(720, 34, label, Markup("").join(parts), "bar")


def steps(route: dict[str, Any], pointer: str) -> Markup:
    """Return a route's share on vLLM over time as stairs."""
    points, end = route["points"], max(int(route["until_s"]), 1)
    left, width, height = 80, 630, 96

    def across(seconds: float) -> float:
        return left + width * seconds / end

    def up(weight: float) -> float:
        return 26 + height * (1 - weight / 100)

    path, drawn, labels = f"M{left},{up(0):.1f}", [], -99.0
    for at, point in enumerate(points):
        x = across(point["s"])
        path += f" H{x:.1f} V{up(point['weight']):.1f}"
        if x - labels >= 60:
            drawn.append(_label(x + 4, up(point["weight"]) - 5, point["weight"], step(pointer, "points", at, "weight"),
                                "start", "end vllm"))  # fmt: skip
            labels = x
    path += f" H{across(end):.1f}"
    area = f"{path} V{up(0):.1f} H{left} Z"
    frame = Markup('<line class="grid" x1="80" x2="710" y1="{0:.1f}" y2="{0:.1f}"/>'
                   '<line class="grid" x1="80" x2="710" y1="{1:.1f}" y2="{1:.1f}"/>'
                   '<text class="axis" x="72" y="{2:.1f}" text-anchor="end">0 %</text>'
                   '<text class="axis" x="72" y="{3:.1f}" text-anchor="end">100 %</text>').format(
        up(0), up(100), up(0) + 4, up(100) + 4)  # fmt: skip
    shape = Markup('<g class="vllm"><path class="area" d="{}"/><path class="stairs" d="{}"/></g>').format(area, path)
    label = f"Share of new requests of {route['model']} on vLLM over time, in percent"
    return _drawing(720, 130, label, frame + shape + Markup("").join(drawn), "stairs")


def _drawing(width: int, height: int, label: str, inner: Markup, kind: str) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, label, inner)  # fmt: skip
