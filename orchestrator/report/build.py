"""The report as one JSON object: everything that the page shows, and all that is needed to judge again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    "memory": ("No GPU of the plan was seen, so there is nothing to divide.", "migrate plan"),
    "answers": ("The answers of both sides were not compared yet.", "migrate up"),
    "surfaces": ("Contract and prompts of both sides were not compared yet.", "migrate up"),
    "loads": ("No load test was run yet.", "migrate up"),
    "live": ("No live traffic was shifted yet.", "migrate cutover"),
    "timeline": ("Nothing has happened yet.", "migrate up"),
}


def build(material: Material, raw: Sequence[dict[str, Any]], files: Files) -> dict[str, Any]:
    """Return the report.

    `raw`: {file, lines, bytes, sha256} of every raw file; `files`: the lines of those that are shown.
    """
    verdicts = [*map(_kept, material.verdicts), *story.shifts(material.journal)]
    routes = {model: route.engine for model, route in material.spec.routes.items()}
    return {
        "schema": SCHEMA, "kind": KIND, **parts(routes, verdicts, material.journal, files),
        "raw": list(raw), "verdicts": verdicts,
    }  # fmt: skip


def parts(
    routes: headline.Routes, verdicts: Sequence[dict[str, Any]], journal: Sequence[dict[str, Any]], files: Files
) -> dict[str, Any]:
    """Return the parts that follow from verdicts, journal and raw lines alone: `verify` makes them again."""
    states = headline.standing(routes, journal)
    measured = loads(verdicts, files)
    seen = next(line for line in journal if line["kind"] == "ground")
    found = {
        "stack": seen["subject"], "tool": seen["data"]["versions"]["migrate"],
        "made_at": moment(seen["at"]),
        "traffic": seen["data"]["traffic"], "memory": seen["data"]["memory"], "versions": seen["data"]["versions"],
        "headline": headline.headline(routes, states, verdicts),
        "routes": headline.standings(routes, states, journal, verdicts),
        "decision": ground.decision(journal), "answers": answers(verdicts, files),
        "surfaces": surfaces(verdicts), "loads": measured,
        "baselines": story.baselines(verdicts), "live": story.live(verdicts, files),
        "weights": story.weights(journal), "timeline": story.timeline(journal),
        "cited": ground.quoted(measured),
    }  # fmt: skip
    compared = found["answers"]
    # Embeddings have neither load test nor prompts.
    needless = ("loads", "surfaces") if compared and all(one["kind"] == "vectors" for one in compared) else ()
    missing = {
        name: {"why": why, "run": run} for name, (why, run) in MISSING.items()
        if not found[name] and name not in needless
    }  # fmt: skip
    return {**found, "missing": missing}


def _kept(kept: Kept) -> dict[str, Any]:
    data = kept.data
    return {"check": kept.check, "target": kept.target, "result": data["result"],
            "summary": str(data.get("summary", "")), "at": moment(data.get("at")), "file": kept.file,
            "evidence": data["evidence"], "raw": data.get("raw")}  # fmt: skip


