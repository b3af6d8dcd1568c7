"""`migrate export load`: a load test's samples as tables or a page, its scenario for k6, locust and GuideLLM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.checks import Side, SideName
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.checks.loadsummary import summarise, to_csv
from orchestrator.commands.session import workspace
from orchestrator.decide.litellm import gateway_url
from orchestrator.errors import UsageError
from orchestrator.flags import Common
from orchestrator.names import canonical
from orchestrator.report import exports, onerun
from orchestrator.report.curves import loads
from orchestrator.report.figures import moment
from orchestrator.report.page import page
from orchestrator.report.recompute import recompute
from orchestrator.report.source import lines_of
from orchestrator.spec import Spec
from orchestrator.workspace import Workspace

SCENARIOS: dict[str, Callable[[LoadPlan, str], dict[str, str]]] = {
    "k6": exports.k6, "locust": exports.locust, "guidellm": exports.guidellm,
}  # fmt: skip
FORMATS = ("csv", "jsonl", "html", *SCENARIOS)


def load_files(common: Common, form: str, *, base_url: str | None, model: str | None) -> dict[str, str]:
    """Return file name -> text. Raises UsageError where the form is none, or nothing was measured for it."""
    if form not in FORMATS:
        raise UsageError(f"there is no format {form!r}", hint=f"known: {', '.join(FORMATS)}")
    space = workspace(common)
    spec = space.spec()
    chosen = _model(spec, model)
    raw = _newest(space, chosen)
    if form in SCENARIOS:
        base = (base_url or gateway_url(spec)).rstrip("/").removesuffix("/v1")
        return SCENARIOS[form](_plan(spec, chosen, raw), base)
    if raw is None:
        raise UsageError(f"no load test of {chosen} was kept", hint="run: migrate up, or: migrate load")
    lines, digest = _read(raw)
    stem = raw.stem
    if form == "jsonl":
        return {f"{stem}.jsonl": "".join(json.dumps(line) + "\n" for line in lines)}
    if form == "csv":
        return {f"{stem}-requests.csv": exports.table(lines), f"{stem}-levels.csv": _levels(lines, raw)}
    return {f"{stem}.html": _page(lines, raw, digest)}


def _page(lines: list[dict[str, Any]], raw: Path, digest: str) -> str:
    data = {"made_at": moment(raw.stat().st_mtime), "tool": __version__,
            "loads": loads([_judged(lines, raw)], {raw.name: lines}),
            "raw": [{"file": raw.name, "lines": len(lines), "sha256": digest}]}  # fmt: skip
    return page(json.loads(json.dumps(data)), "load")


def _levels(lines: list[dict[str, Any]], raw: Path) -> str:
    try:
        return to_csv(summarise(lines))
    except (LookupError, ValueError, TypeError) as error:
        raise _unreadable(raw, error) from error


def _unreadable(raw: Path, error: Exception) -> UsageError:
    return UsageError(f"{raw} cannot be read: {type(error).__name__}: {error}", hint="run the load test again")


def _judged(lines: list[dict[str, Any]], raw: Path) -> dict[str, Any]:
    """Return a gate's verdict, or the figures of a test by hand, as the report keeps them."""
    check = "load" if lines[0].get("check") == "load" else onerun.BY_HAND
    try:
        found = recompute(check, lines)
    except (LookupError, ValueError, TypeError) as error:
        raise _unreadable(raw, error) from error
    return {**found.to_json(), "at": moment(raw.stat().st_mtime), "raw": {"file": raw.name}}


def _model(spec: Spec, model: str | None) -> str:
    """Return the route that is meant: the flag, or the only one that generates."""
    names = [name for name, route in spec.migrating().items() if route.kind == "generate"]
    if model:
        found = [name for name in names if canonical(model) in map(canonical, (name, *spec.routes[name].names))]
        if found:
            return found[0]
        raise UsageError(f"the stack {spec.name} has no load test of {model}", hint=f"it has: {', '.join(names)}")
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"no model of the stack {spec.name} is tested under load",
                         hint="a route of kind generate with an engine is")  # fmt: skip
    raise UsageError(f"which model? there are {', '.join(names)}", hint="name it: --model NAME")


def _newest(space: Workspace, model: str) -> Path | None:
    """Return the newest raw file of a load test of this model."""
    found = [path for path in (space.dir / "report").glob("load-*.jsonl") if _target(path) == model]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _target(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return first.get("model") if isinstance(first, dict) and first.get("kind") == "plan" else None


def _read(path: Path) -> tuple[list[dict[str, Any]], str]:
    try:
        return lines_of(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="run the load test again") from error


def _plan(spec: Spec, model: str, raw: Path | None) -> LoadPlan:
    """Return the scenario as it was run last, or as the stack file asks for it."""
    if raw is not None:
        lines, _ = _read(raw)
        try:
            return LoadPlan.from_json({key: value for key, value in lines[0].items() if key != "kind"})
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{raw} does not begin with its plan: {type(error).__name__}: {error}",
                             hint="run the load test again") from error  # fmt: skip
    load = spec.load
    names: tuple[SideName, SideName] = ("ollama", "vllm")
    return LoadPlan(tuple(Side(name, "") for name in names), model, closed_levels(load.users, load.requests_per_user),
                    max_tokens=load.max_tokens, timeout_s=load.timeout)  # fmt: skip
