"""Weights: shifted step by step and judged on live traffic, or put back to Ollama at once."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from orchestrator.clients.gateway import Conflict
from orchestrator.clients.openai import OpenAI
from orchestrator.decide.canary import Judgement, Side, judge
from orchestrator.errors import GateRefused, Inconclusive, MigrateError, RolledBack, WrongState
from orchestrator.events import Kind
from orchestrator.state import Event, RouteState
from orchestrator.steps import Context, door
from orchestrator.steps.circuits import let_back
from orchestrator.steps.lease import approved, held, settle_debt, standing
from orchestrator.steps.shiftlog import keep_shift

LOOK_S = 0.5


class Shift:
    """Sends `weight` percent of the routes' new requests to vLLM and judges what happens."""

    def __init__(self, context: Context, routes: tuple[str, ...], weight: float) -> None:
        self.context = context
        self.routes = routes
        self.weight = weight
        self._settled = False
        self._seen: tuple[list[dict[str, Any]], Side | None] = ([], None)
        # A route that stands higher already is not taken down by another route's step.
        self._version = _last_written(context) or context.gateway.status().version
        before = standing(context)
        self._moving = [model for model in routes if before[model] < weight]

    def already_done(self) -> bool:
        return not self._moving

    def do(self) -> dict[str, Any]:
        prove_way_back(self.context, {model: self.context.spec.routes[model].kind for model in self._moving})
        let_back(self.context, self._moving)
        control = self._control()
        start = self.context.gateway.log_end()
        self._set(dict.fromkeys(self._moving, self.weight))
        for model in self._moving:
            if self.context.journal.states().routes[model] is not RouteState.SHIFTING:
                self.context.journal.move("route", model, Event.SHIFTED)
        verdict = self._watch(start, control)
        self._record(verdict)
        for model in self._moving:
            # Approved last: a run that is killed before it does this step again, and arrives again.
            if self.weight >= 100:
                self.context.journal.move("route", model, Event.ARRIVED)
            self.context.journal.append("approved", model, f"{self.weight:g} %", {"weight": self.weight})
        settle_debt(self.context.journal, self._moving, "cutover")
        self._settled = True
        return {"text": "approved", "verdict": verdict.as_dict()}

    def undo(self) -> None:
        """Step back to the last approved weights."""
        if self._settled:
            return
        back = {model: weight for model, weight in standing(self.context).items() if model in self._moving}
        at = time.time()
        write_down(self.context, back, at, self.context.gateway.set_weights(back, None, by="cutover: step back"))
        shown = ", ".join(f"{model} {weight:g} %" for model, weight in back.items())
        self.context.say("cutover", f"back to the last approved step: {shown}", Kind.WARN)

    def _set(self, weights: dict[str, float]) -> None:
        status = self.context.gateway.status()
        lowered = {
            model: status.weights.get(model, 0.0)
            for model in weights
            if status.weights.get(model, 0.0) < approved(self.context)[model]
        }
        if lowered:
            shown = ", ".join(f"{model} is at {weight:g} %" for model, weight in lowered.items())
            self.context.say("cutover", f"somebody lowered the weight meanwhile: {shown}", Kind.WARN)
        at = time.time()
        try:
            # On top of what was known before the yes and the look at Ollama: a rollback since then wins.
            version = self.context.gateway.set_weights(weights, self._version, by="cutover")
        except Conflict as error:
            raise WrongState("the weights were changed by somebody else", hint="migrate status") from error
        write_down(self.context, weights, at, version)

    def _control(self) -> Side | None:
        """Return Ollama's side as last measured by a step that still had live control traffic."""
        for entry in reversed(self.context.journal.entries("verdict")):
            side = entry.data.get("ollama")
            if entry.subject == f"shift {','.join(self.routes)}" and side and side["requests"] > 0:
                return Side(**side)
        return None

    def _watch(self, start: int, control: Side | None) -> Judgement:
        cutover = self.context.spec.cutover
        began = time.monotonic()
        records: list[dict[str, Any]] = []
        offset = start
        while True:
            self.context.stop.wait(LOOK_S)
            offset = self._collect(records, offset)
            verdict = judge(records, cutover.thresholds, cutover.min_requests, control)
            elapsed = time.monotonic() - began
            self._seen = records, control
            if verdict.result == "fail":
                self._go_back(verdict)
            self._check_weights()
            if verdict.result == "pass" and elapsed >= cutover.bake:
                return verdict
            self._tell(verdict, elapsed)
            nobody = verdict.vllm.requests == 0 and verdict.ollama.requests == 0 and not records
            if elapsed >= cutover.patience or (nobody and elapsed >= cutover.bake and cutover.min_requests):
                self._give_up(verdict, elapsed)

    def _collect(self, records: list[dict[str, Any]], offset: int) -> int:
        fresh, offset = self.context.gateway.log(offset)
        records += [one.model_dump(by_alias=True) for one in fresh if one.route in self.routes and not one.forced]
        return offset

    def _check_weights(self) -> None:
        weights = self.context.gateway.status().weights
        if any(weights.get(model, 0.0) < self.weight for model in self._moving):
            self._settled = True    # whoever lowered it knows better: leave the weights alone
            raise WrongState(
                "the weight was lowered meanwhile (by migrate rollback, or by the guard)",
                hint="see why: migrate status",
            )

    def _tell(self, verdict: Judgement, elapsed: float) -> None:
        bake = max(0.0, self.context.spec.cutover.bake - elapsed)
        text = f"{verdict.vllm.requests} requests on vLLM, {verdict.ollama.requests} on Ollama"
        text += f"; {verdict.reasons[0]}" if verdict.needed else f"; {bake:.0f} s to go"
        reason = "needed" if verdict.needed else "baking"
        self.context.say(f"shift {self.weight:g} %", text, Kind.WAIT, reason=reason)

    def _go_back(self, verdict: Judgement) -> None:
        unshift(self.context, self.routes, "cutover: a threshold is broken")
        self._settled = True
        self._record(verdict)
        raise RolledBack(
            f"went back to Ollama at {self.weight:g} %: {verdict.reasons[0]}",
            evidence="\n".join(verdict.reasons[1:]),
            hint="all new requests go to Ollama; see migrate logs, then try again: migrate cutover",
        )

    def _give_up(self, verdict: Judgement, elapsed: float) -> None:
        self._record(verdict)
        raise Inconclusive(
            f"not enough data at {self.weight:g} % after {elapsed:.0f} s: {verdict.reasons[0]}",
            evidence=f"vLLM {verdict.vllm.requests} requests, Ollama {verdict.ollama.requests}",
            hint="run it when there is traffic, or lower cutover/min_requests in migrate.yaml",
        )

    def _record(self, verdict: Judgement) -> None:
        subject = f"shift {','.join(self.routes)}"
        records, control = self._seen
        raw = None
        with suppress(MigrateError):    # a full disk must not hide the verdict
            raw = keep_shift(self.context.dir, self.routes, self.weight, self.context.spec.cutover, control, records)
        data = {"weight": self.weight, **verdict.as_dict(), "raw": raw}
        self.context.journal.append("verdict", subject, verdict.result, data)
        text = f"{self.weight:g} %: {verdict.reasons[0]}"
        self.context.say("verdict", text, Kind.VERDICT, result=verdict.result)


class Unshift:
    """All new requests of the routes to Ollama, at once; running answers on vLLM end normally."""

    def __init__(self, context: Context, routes: tuple[str, ...], *, leaving: bool = False) -> None:
        self.context = context
        self.routes = routes
        # The gateway itself goes next: one that does not answer must not keep the original from its port.
        self.leaving = leaving

    def already_done(self) -> bool:
        try:
            weights = self.context.gateway.status().weights
        except MigrateError:
            if self.leaving:
                return False
            raise
        states = self.context.journal.states().routes
        rolled_back = all(states[model] not in (RouteState.SHIFTING, RouteState.CUT_OVER) for model in self.routes)
        owed = held(self.context.journal)
        return rolled_back and all(weights.get(model, 0.0) == 0 and model not in owed for model in self.routes)

    def do(self) -> dict[str, Any]:
        # First, so that an edit that runs beside this does not put the weight back.
        with suppress(MigrateError):
            settle_debt(self.context.journal, self.routes, "rollback")
        try:
            running = unshift(self.context, self.routes, "rollback")
        except MigrateError as error:
            if not self.leaving:
                raise
            self.context.say("rollback", f"going on without the gateway: {error.message}", Kind.WARN)
            _rolled_back(self.context, self.routes)
            return {"text": "the gateway routes nothing"}
        left = f"; {running} running answers on vLLM end normally" if running else ""
        return {"text": f"all new requests go to Ollama{left}"}

    def undo(self) -> None:
        """There is no way back from the way back."""


def prove_way_back(context: Context, kinds: dict[str, str]) -> None:
    """Ask Ollama for one token (or vector) of each route; raises GateRefused where it does not answer.

    `kinds`: route to generate or embedding.
    """
    url, headers = door(context, "ollama")
    for model, kind in kinds.items():
        try:
            with OpenAI(url, headers=headers) as ollama:
                if kind == "embedding":
                    ollama.embeddings({"model": model, "input": "ok"})
                else:
                    ollama.chat({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "ok"}]})
        except MigrateError as error:
            raise GateRefused(
                f"the way back is not there: Ollama does not answer for {model}",
                evidence=error.evidence or error.message,
                hint="see: migrate logs ollama",
            ) from error


def unshift(context: Context, routes: tuple[str, ...], by: str) -> int:
    """Lower the routes to 0 first, write it down second; return how many answers still run on vLLM."""
    at, weights = time.time(), dict.fromkeys(routes, 0.0)
    write_down(context, weights, at, context.gateway.set_weights(weights, None, by=by))
    _rolled_back(context, routes)
    live = context.gateway.status().live.by_route
    return sum(live.get(model, {}).get("vllm", 0) for model in routes)


def _rolled_back(context: Context, routes: tuple[str, ...]) -> None:
    for model in routes:
        context.journal.append("approved", model, "0 %", {"weight": 0.0})
        context.journal.move("route", model, Event.ROLLED_BACK)


def _last_written(context: Context) -> int | None:
    """Return the version that this run wrote last; None before its first step."""
    run = context.journal.run
    mine = [entry.data["version"] for entry in context.journal.entries("weights") if run and entry.run == run]
    return mine[-1] if mine else None


def write_down(context: Context, weights: dict[str, float], at: float, version: int) -> None:
    """Journal weights (percent) that the gateway has taken; `at` in epoch seconds, `version` is the gateway's."""
    text = ", ".join(f"{model} {weight:g} %" for model, weight in weights.items())
    context.journal.append("weights", context.spec.name, text, {"weights": weights, "at": at, "version": version})
