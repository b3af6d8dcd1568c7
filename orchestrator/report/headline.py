"""The verdict first: how the migration stands, in one sentence, and where each route is. From journal and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from orchestrator.report.figures import moment, shown
from orchestrator.state import Event, RouteState, StackState, States, fold

_LONGEST = 200      # characters; the whole stands below it
_GATES = ("health", "rendering", "contract", "parity", "vectors", "load", "shift")
_WORDS = {
    RouteState.STAYS: "stays on Ollama", RouteState.PLANNED: "planned", RouteState.DEPLOYED: "deployed",
    RouteState.HEALTHY: "healthy", RouteState.MATCHED: "answers match", RouteState.PROVEN: "ready for cutover",
    RouteState.SHIFTING: "cutover under way", RouteState.CUT_OVER: "cut over",
    RouteState.ROLLED_BACK: "rolled back", RouteState.RETIRED: "retired",
}  # fmt: skip
# What brings a route on, from the state that is least far.
_RUN = {
    RouteState.PLANNED: "migrate up", RouteState.DEPLOYED: "migrate up", RouteState.HEALTHY: "migrate up",
    RouteState.MATCHED: "migrate up", RouteState.PROVEN: "migrate cutover", RouteState.ROLLED_BACK: "migrate cutover",
    RouteState.SHIFTING: "migrate cutover",
}  # fmt: skip
_SAID = {
    RouteState.PLANNED: "Planned. Nothing was deployed or measured yet.",
    RouteState.PROVEN: "Every check passed: answers and load are as demanded. Ready for cutover.",
    RouteState.ROLLED_BACK: "Rolled back: all new requests go to Ollama.",
    RouteState.SHIFTING: "Cutover under way; every step so far passed.",
    RouteState.CUT_OVER: "All traffic goes to vLLM; every check passed.",
    RouteState.RETIRED: "All traffic goes to vLLM, and Ollama is retired.",
}  # fmt: skip
Routes = Mapping[str, str | None]       # model -> its engine, None where it stays


def standing(routes: Routes, journal: Sequence[dict[str, Any]]) -> States:
    """Return the states that the journal's lines tell."""
    moves = [(line["subject"], Event(line["data"]["event"]), line["at"]) for line in journal if line["kind"] == "state"]
    engines = tuple(dict.fromkeys(engine for engine in routes.values() if engine))
    return fold(moves, {model: engine is not None for model, engine in routes.items()}, engines)


def headline(routes: Routes, states: States, verdicts: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return {result, text, next}: result is pass, fail, inconclusive or open."""
    moving = [states.routes[model] for model, engine in routes.items() if engine]
    if not moving:
        return {"result": "open", "text": "No model migrates: every one stays on Ollama.", "next": "migrate plan"}
    order = [*_RUN, RouteState.CUT_OVER, RouteState.RETIRED]
    least = min(moving, key=order.index)
    run = _RUN.get(least, "migrate status")
    judged = [one for one in _newest(verdicts) if _concerns(one, routes)]
    for result, said in (("fail", "A check said no"), ("inconclusive", "A check has no verdict")):
        one = next((one for one in judged if one["result"] == result), None)
        if one:
            text = shorten(f"{said}: {one['check']} of {one['target']}: {one['summary']}", _LONGEST, placeholder=" …")
            return {"result": result, "text": text, "next": run}
    good = least in (RouteState.PROVEN, RouteState.CUT_OVER, RouteState.RETIRED)
    text = _SAID.get(least, "Deployed; not every check was made yet.")
    return {"result": "pass" if good else "open", "text": text, "next": run}


def _newest(verdicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each gate and target the last one: a step that failed and passed later has passed."""
    return list({(one["check"], one["target"]): one for one in verdicts if one["check"] in _GATES}.values())


def _concerns(verdict: dict[str, Any], routes: Routes) -> bool:
    """Whether a verdict is about what moves now: a route that an edit took out left its evidence behind."""
    known = {name for model, engine in routes.items() if engine for name in (model, engine)}
    return any(name in known for name in (verdict["target"], *verdict["target"].split(",")))


def standings(
    routes: Routes, states: States, journal: Sequence[dict[str, Any]], verdicts: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return one object per route: where it is, its weight, and the newest verdict of each check."""
    newest = sorted(_newest(verdicts), key=lambda one: _GATES.index(one["check"]))
    found = []
    for model, engine in routes.items():
        gates = [
            {"check": one["check"], "result": one["result"], "summary": one["summary"], "at": one["at"]}
            for one in newest if engine and (model in one["target"].split(",") or one["target"] == engine)
        ]  # fmt: skip
        since = states.since.get(f"route/{model}")
        found.append({"model": model, "engine": engine, "state": _WORDS[states.routes[model]],
                      "since": moment(since) if since else "",
                      "weight": _weight(model, states, journal) if engine else None, "gates": gates})  # fmt: skip
    return found


def _weight(model: str, states: States, journal: Sequence[dict[str, Any]]) -> float | int | None:
    lines = [line for line in journal if line["kind"] == "weights" and model in line["data"]["weights"]]
    if lines:
        return shown(lines[-1]["data"]["weights"][model])
    return 0 if states.stack is StackState.TAKEN_OVER else None
