"""Asks the probes on both sides and keeps what came as raw lines; nothing is judged here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator.checks import Side
from orchestrator.checks.contract.ask import Asker, Reply
from orchestrator.checks.contract.bodies import logprob_list
from orchestrator.checks.contract.derived import About, derive, look
from orchestrator.checks.contract.probes import Kind, Probe, Step, fill, quiet, words_for
from orchestrator.checks.contract.rules import estimates
from orchestrator.checks.contract.temperature import Estimate, differ
from orchestrator.checks.contract.usage import Usage
from orchestrator.checks.rendering_asked import read_json
from orchestrator.checks.waiting import together

# Headers by which the control door reaches an engine past the gateway's own choice: callers never send them.
_ENGINE = ("x-migrate-engine", "x-migrate-replica")
_AT_ONCE = 4
_BATCH, _BATCHES, _DRAWN = 8, 3, 32     # requests, repetitions where it is close, tokens of each
_RIVALS = 20
_CLOSE = 1.5        # standard errors apart: not worth another batch
_THEMES = (
    "the sea", "a train", "an old house", "the moon", "a market", "winter", "a long road", "bread", "a violin", "rain",
    "the desert", "a river", "glass", "an island", "a clock", "a garden", "iron", "a letter", "the night", "a bridge",
    "salt", "a harbour", "wind", "a forest",
)  # fmt: skip


@dataclass
class Run:
    """One check; `lines` grow as answers come, so that what was answered survives a side that is lost."""

    old: Side
    new: Side
    model: str
    kind: Kind
    probes: tuple[Probe, ...]
    skip: tuple[str, ...] = ()
    progress: Callable[[int, int, str], None] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, used: Usage, timeout_s: float) -> None:
        """Ask everything; what is known to be used by nobody is asked too, but for the long ones."""
        self.lines.append({
            "kind": "plan", "check": "contract", "target": self.model, "task": self.kind, "used": used.to_json(),
            "sides": [self.old.name, self.new.name], "skipped": list(self.skip),
        })  # fmt: skip
        old, new = Asker(self.old, timeout_s), Asker(_as_callers(self.new), timeout_s)
        engine = Asker(self.new, timeout_s)
        try:
            about = await look(old, engine, self.model)
            self.lines.append({"kind": "model", "stops": list(about.stops), "thinks": about.thinks, "call": about.call,
                               "context": about.context, **about.seen})  # fmt: skip
            chosen = self._chosen(about)
            for done, probe in enumerate(chosen):
                self._note(probe)
                tell = partial(self.progress, done, len(chosen) + 1, probe.name) if self.progress else None
                sides = (old, engine if probe.new_only else new)
                if not await self._probe(probe, about, sides, done, tell):
                    return
            if self.kind == "generate" and "sampling" not in self.skip:
                tell = partial(self.progress, len(chosen), len(chosen) + 1, "temperature") if self.progress else None
                await self._sample(old, new, about, used, tell)
        finally:
            for one in (old, new, engine):
                await one.close()

    def _chosen(self, about: About) -> list[Probe]:
        mine = [one for one in self.probes if (one.kind or "generate") == self.kind]
        if self.kind == "generate":
            mine += derive(about)
        return [one for one in mine if one.group not in self.skip]

    def _note(self, probe: Probe) -> None:
        data = probe.to_json()
        self.lines.append({**data, "kind": "probe", "with": fill(data["with"], words_for(self.model))})

    async def _probe(
        self, probe: Probe, about: About, sides: tuple[Asker, Asker], done: int, tell: Callable[[], None] | None
    ) -> bool:
        """Ask one probe on both sides; False where one of them is not there any more."""
        steps = [_body(step, self.model, quiet_too=about.thinks and not probe.thinks) for step in probe.steps]
        wanted = ("new",) if probe.new_only else ("old", "new")
        work = [_in_turn(sides[side == "new"], steps) for side in wanted]
        for side, replies in zip(wanted, await together(work, tell), strict=True):
            for number, reply in enumerate(replies):
                self.lines.append({
                    "kind": "answer", "probe": probe.name, "side": side, "step": number, "status": reply.status,
                    "type": reply.kind, "body": reply.body, "arrivals": reply.arrivals, "failure": reply.failure,
                })  # fmt: skip
            gone = next((one for one in replies if one.gone), None)
            if gone and await _dead(sides[side == "new"], self.model, self.kind):
                why = gone.failure or f"status {gone.status}"
                self.lines.append({"kind": "lost", "side": side, "why": why, "after": done})
                return False
        return True

    async def _sample(
        self, old: Asker, new: Asker, about: About, used: Usage, tell: Callable[[], None] | None
    ) -> None:
        for way, path in (("v1", "/v1/chat/completions"), ("native", "/api/chat")):
            if used.path(path) is False:
                continue
            for batch in range(_BATCHES):
                work = [self._draws(side, asker, way, path, batch, about)
                        for side, asker in (("old", old), ("new", new))]  # fmt: skip
                if not all(await together(work, tell)) or not _close(**estimates(way, self.lines)):
                    break

    async def _draws(self, side: str, asker: Asker, way: str, path: str, batch: int, about: About) -> bool:
        """Let one side draw a batch; False where it gives no log-probabilities."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(theme: str) -> Reply:
            said = [{"role": "user", "content": f"Write a few lines about {theme}."}]
            body: dict[str, Any] = {"model": self.model, "messages": said, "logprobs": True, "top_logprobs": _RIVALS}
            more = {"max_tokens": _DRAWN} if way == "v1" else {"stream": False, "options": {"num_predict": _DRAWN}}
            step = Step(path=path, body={**body, **more})
            async with gate:
                return await asker.ask("POST", path, _body(step, self.model, quiet_too=about.thinks)[2])

        themes = _THEMES[batch * _BATCH : (batch + 1) * _BATCH]
        replies = await asyncio.gather(*(one(theme) for theme in themes))
        draws = [draw for reply in replies if reply.fine for draw in _read(reply)]
        self.lines.append({"kind": "draws", "way": way, "side": side, "draws": draws})
        return bool(draws)


def _as_callers(side: Side) -> Side:
    kept = {name: value for name, value in side.headers.items() if name.lower() not in _ENGINE}
    return Side(side.name, side.base_url, kept)


def _body(step: Step, model: str, *, quiet_too: bool) -> tuple[str, str, dict[str, Any] | None, str | None]:
    body = fill(step.body, words_for(model)) if step.body is not None else None
    if body is not None and quiet_too:
        body = quiet(step, body)
    return step.method, step.path, body, step.raw


async def _in_turn(
    side: Asker, steps: list[tuple[str, str, dict[str, Any] | None, str | None]]
) -> list[Reply]:
    return [await side.ask(method, path, body, text=raw) for method, path, body, raw in steps]


async def _dead(side: Asker, model: str, kind: Kind) -> bool:
    """Return whether a side answers nothing at all: one probe may be refused with such a status, or break."""
    body: dict[str, Any] = {"model": model, "input": "x"}
    path = "/v1/embeddings"
    if kind == "generate":
        path, body = "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "x"}],
                                              "max_tokens": 1}  # fmt: skip
    return (await side.ask("POST", path, body)).gone


def _read(reply: Reply) -> list[list[Any]]:
    """Return [drawn, [listed …]] for each token whose own log-probability is among those listed."""
    found: list[list[Any]] = []
    try:
        tokens = logprob_list(read_json(reply.body))
    except (KeyError, IndexError, TypeError, AttributeError):
        return []
    for token in tokens:
        rivals = token.get("top_logprobs")
        listed = [one["logprob"] for one in rivals if _number(one.get("logprob"))] if isinstance(rivals, list) else []
        drawn: Any = token.get("logprob")
        listed = listed[:_RIVALS]
        if _number(drawn) and any(abs(drawn - one) < 1e-4 for one in listed):
            found.append([round(drawn, 4), [round(one, 4) for one in listed]])
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6


def _close(old: Estimate, new: Estimate) -> bool:
    """Return whether more draws would tell: neither clearly the same nor clearly not."""
    if differ(old, new) or old.greedy or new.greedy or not (old.enough and new.enough):
        return False
    apart: float = abs(old.cold - new.cold) / (old.error**2 + new.error**2) ** 0.5
    return apart > _CLOSE
