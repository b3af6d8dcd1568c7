"""`migrate report`: what was decided, measured and done, as a page and as data; `migrate verify` judges it again."""

from __future__ import annotations

import json
import time
from pathlib import Path

from orchestrator.commands.session import open_journal, workspace
from orchestrator.console import Console
from orchestrator.errors import ExitCode, GateRefused
from orchestrator.flags import Common
from orchestrator.report import build, source, write
from orchestrator.report import check as checking
from orchestrator.report.page import page
from orchestrator.report.text import summary
from orchestrator.workspace import near

DATA = "report.json"


def report(console: Console, common: Common, *, out: str | None = None) -> int:
    """Write report.json, report.html and the raw files into `out`, by default the stack's report/; print the same.

    Needs no lock: works at every stage, also while another command runs.
    """
    space = workspace(common)
    spec = space.spec()
    journal = open_journal(space, spec, create=False)
    material = source.read(space, spec, journal, time.time())
    folder = Path(out) if out else material.folder
    raw = write.keep_raw(material, folder)
    data = build.build(material, raw.described, raw.files)
    data = json.loads(json.dumps(data))     # as `verify` will read it
    texts = {DATA: json.dumps(data, ensure_ascii=False, indent=1) + "\n", checking.PAGE: page(data)}
    files = [str(near(path)) for path in write.put_texts(folder, texts)]
    left = [f"{name} holds what callers asked and was not copied: verify it there, with --raw {near(material.folder)}"
            for name in raw.kept_back]  # fmt: skip
    told = "\n".join([summary(data), f"wrote {' and '.join(files)}", *left])
    console.answer(told, {"files": files, "headline": data["headline"], "routes": data["routes"],
                          "missing": data["missing"], "kept_back": raw.kept_back})  # fmt: skip
    return ExitCode.DONE


def verify(console: Console, _: Common, path: str, *, raw: str | None = None) -> int:
    """Judge a report again from its raw files, beside it or in `raw`; refuses (3) with every difference named."""
    place = Path(path)
    place = place / DATA if place.is_dir() else place
    data = checking.load(place)
    found = checking.check(data, Path(raw) if raw else place.parent, place.with_name(checking.PAGE))
    count = f"{len(found.again)} verdict{'s' if len(found.again) != 1 else ''}"
    if found.problems:
        many = "difference" if len(found.problems) == 1 else "differences"
        raise GateRefused(
            f"{place} does not follow from its raw files: {len(found.problems)} {many}",
            evidence="\n".join(found.problems),
            hint="get the untouched files from the server, or make the report anew there: migrate report",
        )
    lines = [f"{count} of {data['stack']} recomputed, nothing differs", *(f"  {one}" for one in found.again),
             *(f"note: {one}" for one in found.notes)]  # fmt: skip
    console.answer("\n".join(lines), {"report": str(place), "recomputed": found.again, "notes": found.notes})
    return ExitCode.DONE
