"""Judges a report again: every verdict from its raw lines, every part from the verdicts and the journal's lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.checks import Verdict
from orchestrator.errors import MigrateError, UsageError
from orchestrator.report import story
from orchestrator.report.build import KIND, parts
from orchestrator.report.figures import step
from orchestrator.report.page import page
from orchestrator.report.recompute import Unjudged, from_evidence, recompute
from orchestrator.report.source import JOURNAL, lines_of

PAGE = "report.html"
_MOST = 10      # differences told of one verdict or part


@dataclass
class Checked:
    """What came of it: `problems` name each difference, `again` the verdicts that were made anew, `notes` the rest."""

    problems: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load(path: Path) -> dict[str, Any]:
    """Read a report; raises UsageError where it is none."""
    hint = "name the report.json that `migrate report` wrote"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", hint=hint) from None
    if not isinstance(report, dict) or report.get("kind") != KIND or report.get("schema") != 1:
        raise UsageError(f"{path} is not a report of migrate", hint=hint)
    return report


def check(report: dict[str, Any], raw: Path, html: Path | None = None) -> Checked:
    """Compare a report with the raw files in the folder `raw`, and with its page if that is there.

    Raises UsageError where the report has not the shape of one.
    """
    found = Checked()
    try:
        files = _files(report, raw, found)
        _same_raw(report, files.get(JOURNAL, []), found)
        verdicts = [_again(number, one, files, found) for number, one in enumerate(report["verdicts"])]
        if JOURNAL in files:
            _parts(report, verdicts, files, found)
        if html and html.exists() and report["tool"] == __version__ and html.read_text("utf-8") != page(report):
            found.problems.append(f"{html.name} is not the page of this report.json")
    except (LookupError, TypeError, AttributeError, ValueError, OSError, RecursionError, MigrateError) as error:
        if found.problems:      # what was altered may well not be read as a report any more
            found.problems.append(f"the rest cannot be read: {type(error).__name__}: {error}")
            return found
        raise UsageError(f"the report is damaged: {type(error).__name__}: {error}",
                         hint="make it again: migrate report") from error  # fmt: skip
    if report["tool"] != __version__:
        found.notes.append(f"the report was made by migrate {report['tool']}, this is {__version__}")
    found.notes.append("not measured again: what `migrate plan` saw of traffic, memory and versions")
    return found


def _files(report: dict[str, Any], folder: Path, found: Checked) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each raw file that is as the report says."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for one in report["raw"]:
        name = one["file"]
        if Path(name).name != name:
            found.problems.append(f"raw file {name!r}: not a plain file name")
            continue
        try:
            lines[name], digest = lines_of(folder / name)
        except FileNotFoundError:
            found.problems.append(f"raw file {name} is missing in {folder}")
        except OSError as error:
            found.problems.append(f"raw file {name} cannot be read: {error.strerror or error}")
        except ValueError as error:
            found.problems.append(f"raw file {name} was altered: {error}")
        else:
            if digest != one["sha256"]:
                found.problems.append(f"raw file {name} was altered: its SHA-256 is {digest}, not {one['sha256']}")
            if len(lines[name]) != one["lines"]:
                found.problems.append(f"raw file {name} has {len(lines[name])} lines, not {one['lines']}")
    if not any(one["file"] == JOURNAL for one in report["raw"]):
        found.problems.append(f"raw file {JOURNAL} is not named in the report")
    return lines


def _same_raw(report: dict[str, Any], journal: list[dict[str, Any]], found: Checked) -> None:
    """The raw file of a verdict is the one that it was judged from, as verdict and journal wrote down then."""
    listed = {one["file"]: one["sha256"] for one in report["raw"]}
    noted = {line["subject"]: line["data"]["raw"] for line in journal
             if line["kind"] == "verdict" and line["data"].get("raw")}  # fmt: skip
    for kept in report["verdicts"]:
        name, raw = f"{kept['check']} {kept['target']}", kept["raw"]
        if raw and listed.get(raw["file"]) != raw["sha256"]:
            found.problems.append(f"{name}: {raw['file']} is not what it was judged from: {raw['sha256']}")
        elif kept["check"] != "shift" and name in noted and noted[name] != raw:
            found.problems.append(f"{name}: the journal names other raw lines: {noted[name]}")


def _again(
    number: int, kept: dict[str, Any], files: dict[str, list[dict[str, Any]]], found: Checked
) -> dict[str, Any]:
    """Return the verdict made anew, or as it was kept where that cannot be."""
    check_, target, raw = kept["check"], kept["target"], kept["raw"]
    name = f"{check_} {target}"
    try:
        if raw and raw["file"] not in files:
            found.problems.append(f"{name}: its raw file {raw['file']} cannot be used")
            return kept
        new = _judged(check_, target, kept, files)
    except Unjudged as error:
        found.notes.append(f"{name}: {error}")
        return kept
    except Exception as error:  # noqa: BLE001 - lines that were altered may break a judge in any way
        found.problems.append(f"{name}: its raw lines cannot be judged: {type(error).__name__}: {error}")
        return kept
    made = {**kept, "target": new.target, "result": new.result, "summary": new.summary,
            "evidence": {**_left(kept["evidence"]), **json.loads(json.dumps(new.evidence))}}  # fmt: skip
    _tell(f"{name}: ", list(compare(kept, made, f"/verdicts/{number}")), found)
    found.again.append(name)
    return made


def _judged(
    check_: str, target: str, kept: dict[str, Any], files: dict[str, list[dict[str, Any]]]
) -> Verdict:
    if kept["raw"]:
        with suppress(Unjudged):
            return recompute(check_, files[kept["raw"]["file"]])
    return from_evidence(check_, target, _bare(kept["evidence"]))


def _left(evidence: dict[str, Any]) -> dict[str, Any]:
    return {"skipped": evidence["skipped"]} if "skipped" in evidence else {}


def _bare(evidence: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in evidence.items() if key != "skipped"}


def _parts(
    report: dict[str, Any], verdicts: list[dict[str, Any]], files: dict[str, list[dict[str, Any]]], found: Checked
) -> None:
    """Make the page's parts again, and the steps of the cutover as the journal has them."""
    journal = files[JOURNAL]
    told = [one for one in report["verdicts"] if one["check"] == "shift"]
    _tell("journal: ", list(compare(told, story.shifts(journal), "/verdicts")), found)
    routes = {one["model"]: one["engine"] for one in report["routes"]}
    for name, value in parts(routes, verdicts, journal, files).items():
        if name != "cited" or report["tool"] == __version__:
            _tell("", list(compare(report[name], json.loads(json.dumps(value)), step("", name))), found)


def _tell(name: str, differences: list[str], found: Checked) -> None:
    found.problems += [name + one for one in differences[:_MOST]]
    if len(differences) > _MOST:
        found.problems.append(f"{name}and {len(differences) - _MOST} more differences")


def compare(kept: Any, made: Any, pointer: str) -> Iterator[str]:
    """Yield each difference with its place; floats may differ in the last bits, as another processor rounds them."""
    if isinstance(kept, dict) and isinstance(made, dict):
        for key in [*kept, *(key for key in made if key not in kept)]:
            if key not in kept or key not in made:
                yield f"{step(pointer, key)} is {'not in the report' if key not in kept else 'in the report alone'}"
            else:
                yield from compare(kept[key], made[key], step(pointer, key))
    elif isinstance(kept, list) and isinstance(made, list):
        if len(kept) != len(made):
            yield f"{pointer} has {len(kept)} entries, recomputed {len(made)}"
        for number, (one, other) in enumerate(zip(kept, made, strict=False)):
            yield from compare(one, other, step(pointer, number))
    elif not _same(kept, made):
        yield f"{pointer} is {_short(kept)}, recomputed {_short(made)}"


def _same(kept: Any, made: Any) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (kept, made))
    if numbers:
        return math.isclose(kept, made, rel_tol=1e-9, abs_tol=1e-12)
    return bool(kept == made and type(kept) is type(made))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
