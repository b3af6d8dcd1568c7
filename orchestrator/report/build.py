"""The report as one JSON object: everything that the page shows, and all that is needed to judge again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator import __version__
from orchestrator.report import ground, headline, story
from orchestrator.report.answers import Files, answers
from orchestrator.report.curves import loads
from orchestrator.report.figures import moment
from orchestrator.report.source import Kept, Material
from orchestrator.report.surface import surfaces

SCHEMA = 1
KIND = "migrate report"
MISSING = {
    "decision": ("No plan was made yet.", "migrate plan"),
    "memory": ("No GPU was planned for, so there is nothing to divide.", "migrate plan"),
    "answers": ("The answers of both sides were not compared yet.", "migrate up"),
    "surfaces": ("Contract and prompts of both sides were not compared yet.", "migrate up"),
    "loads": ("No load test was run yet.", "migrate up"),
    "live": ("No live traffic was shifted yet.", "migrate cutover"),
    "timeline": ("Nothing has happened yet.", "migrate up"),
}


def build(
    material: Material, raw: Sequence[dict[str, Any]], files: Files, spec_text: str, made_at: float
) -> dict[str, Any]:
    """Return the report; `made_at` in seconds.

    `raw`: {file, lines, bytes, sha256} of every raw file; `files`: the lines of those that are shown.
    """
    verdicts = [*map(_kept, material.verdicts), *story.shifts(material.journal)]
    routes = {model: route.engine for model, route in material.spec.routes.items()}
    report: dict[str, Any] = {
        "schema": SCHEMA, "kind": KIND, "stack": material.spec.name, "made_at": moment(made_at), "tool": __version__,
        **parts(routes, verdicts, material.journal, files),
        "traffic": ground.traffic(material.facts) if material.facts else None,
        "memory": ground.memory(material.spec, material.facts),
        "versions": ground.versions(material.spec, material.facts, material.journal, spec_text),
        "raw": list(raw), "verdicts": verdicts,
    }  # fmt: skip
    report["missing"] = {
        name: {"why": why, "run": run} for name, (why, run) in MISSING.items() if not report[name]
    }
    return report


def parts(
    routes: headline.Routes, verdicts: Sequence[dict[str, Any]], journal: Sequence[dict[str, Any]], files: Files
) -> dict[str, Any]:
    """Return the parts that follow from verdicts, journal and raw lines alone: `verify` makes them again."""
    states = headline.standing(routes, journal)
    measured = loads(verdicts, files)
    return {
        "headline": headline.headline(routes, states, verdicts),
        "routes": headline.standings(routes, states, journal, verdicts),
        "decision": ground.decision(journal), "answers": answers(verdicts, files),
        "surfaces": surfaces(verdicts), "loads": measured,
        "live": story.live(verdicts, files), "weights": story.weights(journal), "timeline": story.timeline(journal),
        "cited": ground.quoted(measured),
    }  # fmt: skip


def _kept(kept: Kept) -> dict[str, Any]:
    data = kept.data
    return {"check": kept.check, "target": kept.target, "result": data["result"],
            "summary": str(data.get("summary", "")), "at": moment(data.get("at")), "file": kept.file,
            "evidence": data["evidence"], "raw": data.get("raw")}  # fmt: skip


