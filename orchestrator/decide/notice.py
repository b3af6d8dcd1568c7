"""The note to the team before a migration, as plain text. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from orchestrator.decide.outlook import triggers
from orchestrator.facts import Facts
from orchestrator.spec import Spec, Thresholds

Duration = float | tuple[float, float] | str | None
WIDTH = 100
_WAY_BACK = (
    "At any time `migrate rollback` sends all new requests to Ollama at once; running answers end normally. "
    "`migrate rollback --restore` gives the original Ollama its address back."
)


def notice(spec: Spec, facts: Facts, eta: Mapping[str, Duration] | None = None) -> str:
    """Return the note: window, timeline, degraded service, triggers, way back, and what changes for clients.

    `eta`: phase -> seconds, or (low, high) seconds, or words; None or absent where nobody knows.
    """
    moving = list(spec.migrating())
    staying = [name for name, route in spec.routes.items() if not route.engine]
    parts = [
        [f"Subject: {', '.join(moving) or 'no model'}: from Ollama to vLLM"],
        ["What happens", f"{_listed(moving)} will be served by vLLM instead of Ollama, at the same address.",
         *([f"{_listed(staying)} {_stay(staying)} on Ollama."] if staying else [])],
        ["Window", "Start: ____________ (to be filled in)", _window(facts)],
        ["Timeline", *_timeline(spec, eta or {})],
        ["Degraded service", *_degraded(spec, facts)],
        ["We go back by ourselves when", *_triggers(spec.cutover.thresholds, spec)],
        ["Way back", _WAY_BACK],
        ["What changes for you", *_clients(spec)],
    ]  # fmt: skip
    return "\n\n".join("\n".join([part[0], *(_item(line) for line in part[1:])]) for part in parts)


def _item(line: str) -> str:
    return textwrap.fill(line, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False)


def _stay(names: list[str]) -> str:
    return "stays" if len(names) == 1 else "stay"


def _listed(names: list[str]) -> str:
    if not names:
        return "No model"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _window(facts: Facts) -> str:
    hours = facts.traffic.peak_by_hour
    if not hours:
        return "No access log was read, so the quiet hours are not known: choose them."
    quiet = min(hours.values())
    named = ", ".join(f"{hour}:00" for hour in sorted(hours) if hours[hour] == quiet)
    return f"Quietest hours in {facts.traffic.origin or facts.traffic.source}: {named}, with {quiet} at once at most."


def _timeline(spec: Spec, eta: Mapping[str, Duration]) -> list[str]:
    lines = [f"{phase}: {_duration(value)}" for phase, value in eta.items() if value is not None]
    steps = " -> ".join(f"{step:g} %" for step in spec.cutover.steps)
    least = spec.cutover.bake * len(spec.cutover.steps)
    most = max(least, max(spec.cutover.bake, spec.cutover.patience) * len(spec.cutover.steps))
    lines.append(f"Cutover in steps {steps}, each judged on live traffic: {_duration((least, most))}")
    if not eta:
        lines.insert(0, "Deployment, health check, parity and load test: not estimated")
    return lines


def _degraded(spec: Spec, facts: Facts) -> list[str]:
    if spec.takeover.redirect:
        take = "While the gateway takes the address, new connections are redirected, where the host's rules allow it: "
        take += "nothing is refused then."
    else:
        take = "While the gateway takes the address, new connections are refused for a few seconds."
    end = "cut" if spec.takeover.when_busy == "cut" else "left alone, and the take-over is undone"
    lines = [take, f"Running answers are waited for up to {_duration(spec.takeover.drain)}; what runs longer is {end}."]
    if facts.ollama.container is None:
        lines.append("Ollama does not run in a container here, so its address may have to be freed by hand.")
    lines.append(f"During the load test ({', '.join(map(str, spec.load.users))} users at once) Ollama may be slower.")
    return lines


def _triggers(limits: Thresholds, spec: Spec) -> list[str]:
    lines = triggers(limits)
    lines.append(f"the command that watches is silent for {_duration(spec.cutover.lease)} during a step")
    lines.append("Tell us as well when answers get worse: their quality is compared before, not during the cutover.")
    return lines


def _clients(spec: Spec) -> list[str]:
    lines = ["Nothing: same address, same model names, native API and /v1 alike."]
    routes = spec.migrating()
    if routes:
        lengths = sorted({spec.engines[route.engine].max_model_len for route in routes.values() if route.engine})
        tokens = " or ".join(f"{length:,}" for length in lengths)
        lines.append(f"The wording of answers may differ: another engine, another format of the weights. The context "
                     f"is {tokens} tokens; num_ctx in a request has no effect on vLLM.")  # fmt: skip
    if any(route.kind == "embedding" for route in routes.values()):
        lines.append("Embeddings come from another engine: stored vectors have to be made again (re-index).")
    return lines


def _duration(value: Duration) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "not known"
    if isinstance(value, tuple):
        low, high = (_duration(one) for one in value)
        return low if low == high else f"{low} to {high}"
    if value < 90:
        return f"{value:g} s" if value >= 1 or value == 0 else f"{value * 1000:g} ms"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
