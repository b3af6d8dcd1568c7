"""A migration that never ran, made by code from seeded stand-in data: journal, raw samples, verdicts, as real ones lie."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator.checks import Side, Verdict, baseline, load, parity, rendering
from orchestrator.checks.answers.case import Case
from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.terms import Terms
from orchestrator.checks.answers.traffic import TRAFFIC
from orchestrator.checks.health import rejudge
from orchestrator.checks.load import LoadResults
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.checks.loadshape import Level
from orchestrator.checks.parity_rules import Pair, Record
from orchestrator.checks.parity_rules import Terms as SmokeTerms
from orchestrator.checks.prompts import load_prompts
from orchestrator.decide.canary import judge
from orchestrator.facts import Facts, Gpu, Model, OllamaContainer, OllamaFacts, Spread, Traffic
from orchestrator.journal import Journal
from orchestrator.spec import Spec, load_spec
from orchestrator.state import Event
from orchestrator.steps.evidence import keep_raw
from orchestrator.steps.shiftlog import keep_shift
from orchestrator.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
MODEL = "llama3.1:8b"
GIB = 2**30
SIDES = ("ollama", "vllm")
STAGES = ("plan", "up", "cutover", "done", "rollback")
SECRET = "sk-live-4f1d9c0b7a6e"         # planted, so that a test can look for it
ODD = {"word": "W" * 3000, "lines": "a\n" * 500, "tags": "</bdi></main><script>alert(1)</script>" * 20,
       "arabic": "مرحبا بالعالم " * 90,
       "korean": "안녕하세요" * 200, "controls": "\x00\x1b[31m\u202e\u2028\ud7ff" * 20}  # fmt: skip
LIVE = "what the caller Mr Doe asked at noon"


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, at: float = 1_790_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += seconds


def make_run(
    folder: Path, *, stage: str = "done", seed: int = 1, users: tuple[int, ...] = (1, 2, 5, 10, 20), captured: bool = False,
    odd: bool = False,
) -> Path:
    """Make the stack `folder` as it would lie there after `stage`, one of STAGES; returns it.

    `captured`: what callers asked was a suite, too. `odd`: answers are long, have no spaces, or run right to left.
    """
    text = (ROOT / "stacks" / "llama3-1-8b-24gb" / "migrate.yaml").read_text(encoding="utf-8")
    folder.mkdir(parents=True)
    text = text.replace("name: llama3-1-8b-24gb", f"name: {folder.name}")
    (folder / "migrate.yaml").write_text(text, encoding="utf-8")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "control.token").write_text(SECRET, encoding="utf-8")
    space = Workspace(folder)
    spec = load_spec(space.spec_path)
    space.save_facts(_facts())
    clock = Clock()
    with mock.patch("orchestrator.journal.time.time", clock):
        journal = Journal(space.state_dir)
        journal.known({MODEL: True}, tuple(spec.engines))
        try:
            _Story(folder, spec, journal, clock, random.Random(seed), users, captured, odd).until(stage)
        finally:
            journal.close()
    return folder


class _Story:
    def __init__(
        self, folder: Path, spec: Spec, journal: Journal, clock: Clock, dice: random.Random, users: tuple[int, ...],
        captured: bool, odd: bool,
    ) -> None:
        self.folder, self.spec, self.journal, self.clock = folder, spec, journal, clock
        self.dice, self.users, self.captured, self.odd = dice, users, captured, odd

    def until(self, stage: str) -> None:
        self._plan()
        for name, act in (("up", self._up), ("cutover", self._cutover), ("done", self._done), ("rollback", self._back)):
            if STAGES.index(stage) >= STAGES.index(name):
                act()

    def _plan(self) -> None:
        reasons = [
            {"kind": "evidence", "text": "7 requests at once at the peak, 5 at p95", "evidence": "measured",
             "points": "migrate"},
            {"kind": "hours", "text": "6.4 hours a week are lost to waiting", "evidence": "measured",
             "points": "migrate"},
        ]  # fmt: skip
        self.journal.append("plan", self.spec.name, "the steps", {
            "command": "up", "stack": self.spec.name, "steps": [], "verdict": "migrate", "forced": False,
            "rehearsal": False, "reasons": reasons, "symptoms": {"timeouts under load": True, "GPU idle": None},
            "hours_lost_per_week": 6.4, "missing": [{"what": "the SLA", "how": "say it under needs: in migrate.yaml"}],
        })  # fmt: skip
        self.clock.pass_(3600)

    def _step(self, name: str, seconds: float) -> None:
        self.journal.append("intent", name, "it is not there yet")
        self.clock.pass_(seconds)
        self.journal.append("outcome", name, "done", {"text": "done", "seconds": seconds})

    def _up(self) -> None:
        self.journal.begin("up")
        self._step("write-files stack", 0.2)
        self._gate(baseline.recompute(self._before()), map(json.dumps, self._before()), 40)
        self._step("take-over stack", 3.1)
        self.journal.move("stack", self.spec.name, Event.TOOK_OVER)
        self._step("start-engine llama3-1-8b", 142)
        self.journal.move("engine", "llama3-1-8b", Event.STARTED)
        self.journal.move("engine", "llama3-1-8b", Event.READY)
        self.journal.move("route", MODEL, Event.READY)
        seen = {
            "expected_root": "RedHatAI/x", "served_names": [MODEL], "kind": "generate", "adapters": {}, "health": 200,
            "models": [{"id": MODEL, "root": "RedHatAI/x", "max_model_len": 16384}],
            "answer": {"choices": [{"index": 0}], "usage": {"completion_tokens": 1}},
        }  # fmt: skip
        health = Verdict("health", "llama3-1-8b", *rejudge(seen), seen)
        self._gate(health, None, 4, Event.HEALTH_PASSED)
        self._gate(self._contract(), None, 21)
        for check, lines, seconds, event in (
            (rendering, self._rendered(), 6, None), (parity, self._parity(), 38, Event.PARITY_PASSED), (load, self._load(), 260, Event.LOAD_PASSED),
        ):  # fmt: skip
            self._gate(check.recompute(lines), map(json.dumps, lines), seconds, event)
        self.journal.end("done", 0)

    def _gate(self, verdict: Verdict, lines: Any, seconds: float, event: Event | None = None) -> None:
        report = self.folder / "report"
        report.mkdir(exist_ok=True)
        name = f"{verdict.check}-{verdict.target.replace(':', '-')}"
        self.clock.pass_(seconds)
        raw = keep_raw(report / f"{name}.jsonl", lines or ())
        plain = asdict(raw) if raw else None
        (report / f"{name}.json").write_text(
            json.dumps({"schema": 1, "at": self.clock.at, **verdict.to_json(), "raw": plain}, indent=1), encoding="utf-8"
        )
        self.journal.append("verdict", f"{verdict.check} {verdict.target}", verdict.result,
                            {"summary": verdict.summary, "evidence": f"report/{name}.json", "raw": plain,
                             "spec": "d"})  # fmt: skip
        if event:
            self.journal.move("route", MODEL, event)

    def _contract(self) -> Verdict:
        matrix = [
            {"probe": f"probe-{n}", "group": ("stream", "tools", "json", "errors")[n % 4], "result": "same", "old": {},
             "new": {}, "name": "", "why": ""}
            for n in range(30)
        ]  # fmt: skip
        matrix[5] |= {"result": "tolerated", "why": "vLLM answers more than Ollama", "old": {"supported": False},
                      "new": {"supported": True, "logprobs": 5}}  # fmt: skip
        matrix[7] |= {"result": "unused", "name": "n ignored", "why": "n: Ollama 1, vLLM 2", "old": {"n": 1},
                      "new": {"n": 2}}  # fmt: skip
        groups = {name: {"result": "pass", "probes": 7} for name in ("stream", "tools", "json", "errors")}
        return Verdict("contract", MODEL, "pass", "30 probes in 4 groups: 28 the same, 1 tolerated",
                       {"groups": groups, "matrix": matrix, "used": {}})  # fmt: skip

    def _rendered(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [{"kind": "plan", "check": "rendering", "target": MODEL, "direct": True,
                                        "sides": list(SIDES), "used": {}}]  # fmt: skip
        for name in ("question", "system", "turns"):
            said = {"user1": f"What about {name}?"}
            text = f"<|start|>user<|end|>\n\n{said['user1']}<|eot|><|start|>assistant<|end|>\n\n"
            lines.append({"kind": "conversation", "id": name, "said": said, "tools": []})
            for side, shown in (("old", text), ("new", text.replace("\n\n", "\n", 1) if name == "turns" else text)):
                lines.append({"kind": "rendering", "conversation": name, "way": "native", "side": side, "status": 200,
                              "text": shown, "tokens": 21, "strings": [], "context": 16384, "why": ""})  # fmt: skip
        return lines

    def _parity(self) -> list[dict[str, Any]]:
        """Smoke prompts, a suite with checkable answers asked twice, and a captured request."""
        smoke = {"fact": ("Paris", "Paris."), "arithmetic": ("42", "42"), "unicode": ("Grüße, مرحبا, 안녕",) * 2,
                 "system": ("Arr, welcome aboard, matey!", "Arr! Welcome aboard my ship, matey!"),
                 "json": ('{"city": "Paris", "country": "France"}',) * 2}  # fmt: skip
        lines: list[dict[str, Any]] = [{
            "kind": "plan", "check": "parity", "target": MODEL, "smoke": asdict(SmokeTerms(MODEL)),
            "terms": asdict(Terms()), "manner": {}, "sides": ["ollama", "vllm"], "notes": [],
        }]  # fmt: skip
        for prompt in load_prompts():
            for mode in ("plain", "stream"):
                old, new = smoke.get(prompt.id, (f"An answer to {prompt.id} <b>& more</b>", f"An answer to {prompt.id}"))
                tokens = self.dice.randint(12, 40)
                pair = Pair(prompt.id, mode, self._record(old, tokens), self._record(new, tokens), prompt.params)
                lines.append({"kind": "pair", **asdict(pair)})
        for number in range(24):
            one, other = self.dice.randint(10, 99), self.dice.randint(10, 99)
            case = Case(f"sum-{number}", "arithmetic", ({"role": "user", "content": f"What is {one} + {other}?"},),
                        asserts=({"type": "contains", "value": str(one + other)},), origin="suite.yaml")  # fmt: skip
            old = f"{one} + {other} = {one + other}"
            new = (old, old, f"{old}, of course.", f"{one} + {other} equals {one + other}.")[number % 4]
            lines += self._asked(case, old, f"{one} + {other} = {one - other}" if number == 9 else new)
        if self.odd:
            for name, text in ODD.items():
                case = Case(f"odd-{name}", "odd", ({"role": "user", "content": text[:200]},), origin="o" * 90)
                lines += self._asked(case, text, text[::-1])
        if not self.captured:
            return lines
        live = Case("traffic/r-1", TRAFFIC, ({"role": "user", "content": LIVE},), origin="shadow")
        return lines + self._asked(live, f"To {LIVE}: yes", f"To {LIVE}: no")

    def _asked(self, case: Case, old: str, new: str) -> list[dict[str, Any]]:
        return [{"kind": "case", **case.to_json()}] + [
            {"kind": "answer", "case": case.id, "side": side, "run": run, **Reply(
                200, text=text, finish_reason="stop", prompt_tokens=18, output_tokens=len(text) // 4).to_json()}
            for run in range(2) for side, text in (("ollama", old), ("vllm", new))
        ]  # fmt: skip

    def _record(self, text: str, tokens: int) -> Record:
        return Record(200, "complete", text, "stop", MODEL, tokens, max(1, len(text) // 4), 12, 9)

    def _load(self) -> list[dict[str, Any]]:
        sides = tuple(Side(side, f"http://127.0.0.1:11480/side/{side}", {"Authorization": f"Bearer {SECRET}"})
                      for side in SIDES)  # fmt: skip
        plan = LoadPlan(sides, MODEL, closed_levels(self.users, 4))
        samples, runs = [], []
        for level in plan.levels:
            for repeat in range(4 if level is plan.levels[-1] else 1):      # the level that judges: in pairs
                for side in SIDES if repeat % 2 else reversed(SIDES):
                    place = {"side": side, "users": level.users, "level": level.label, "repeat": repeat}
                    found = list(self._samples(side, level))
                    samples += [{**place, **one} for one in found]
                    wall = max(one["end_us"] for one in found) / 1e6
                    runs.append({**place, "planned": level.requests, "sent": level.requests, "loop_lag_p99_ms": 0.4,
                                 "cpu_share": 0.06, "wall_s": wall})  # fmt: skip
        warmups = [{"side": side, "number": n, **self._sample(0, 400_000, 20_000)} for side in SIDES for n in range(2)]
        return [json.loads(line) for line in LoadResults(plan, samples, runs, warmups).lines()]

    def _before(self) -> list[dict[str, Any]]:
        """The lines of the untouched Ollama: made twice, so by dice of their own."""
        dice, self.dice = self.dice, random.Random(7)
        side = Side("ollama", "http://127.0.0.1:11434")
        plan = baseline.baseline_plan(side, MODEL, max(self.users), 64, 120.0)
        samples, runs = [], []
        for level in plan.levels:
            place = {"side": "ollama", "users": level.users, "level": level.label, "repeat": 0}
            samples += [{**place, **one} for one in self._samples("ollama", level)]
            runs.append({**place, "planned": level.requests, "sent": level.requests, "loop_lag_p99_ms": 0.4,
                         "cpu_share": 0.06, "wall_s": 9.0})  # fmt: skip
        warmups = [{"side": "ollama", "number": 0, **self._sample(0, 400_000, 20_000)}]
        self.dice = dice
        return [json.loads(line) for line in LoadResults(plan, samples, runs, warmups).lines(check="baseline")]

    def _samples(self, side: str, level: Level) -> Iterator[dict[str, Any]]:
        """Ollama answers one at a time and lets the others wait; vLLM batches and slows down a little."""
        free = [0] * level.users        # when each user sends its next request
        server = 0
        for _ in range(level.requests):
            who = min(range(level.users), key=free.__getitem__)
            sent = free[who]
            noise = self.dice.uniform(0.93, 1.1)
            if side == "ollama":
                begin = max(sent, server)
                first, gap = begin - sent + int(95_000 * noise), int(16_500 * noise)
            else:
                first, gap = int((70_000 + 2_500 * level.users) * noise), int((14_000 + 320 * level.users) * noise)
            sample = self._sample(sent, first, gap)
            free[who] = server = sample["end_us"]
            if side == "vllm":
                server = 0
            yield sample

    def _sample(self, at: int, first: int, gap: int, tokens: int = 64) -> dict[str, Any]:
        stamps = [first + gap * n for n in range(tokens)]
        return {"at_us": at, "end_us": at + stamps[-1] + gap, "send_lag_us": self.dice.randint(20, 200),
                "headers_us": min(first, 3000), "token_us": stamps, "last_us": stamps[-1] + gap,
                "outcome": "complete", "status": 200, "error": None, "finish_reason": "length", "prompt_tokens": 34,
                "output_tokens": tokens, "retried": False}  # fmt: skip

    def _shift(self, weight: float, count: int = 400) -> None:
        self.journal.append("weights", self.spec.name, f"{MODEL} {weight:g} %",
                            {"weights": {MODEL: weight}, "at": self.clock.at, "version": 1})  # fmt: skip
        self.journal.move("route", MODEL, Event.SHIFTED)
        self.clock.pass_(75)
        records = [self._request("vllm" if self.dice.random() * 100 < weight else "ollama") for _ in range(count)]
        cutover = self.spec.cutover
        found = judge(records, cutover.thresholds, cutover.min_requests)
        raw = keep_shift(self.folder, (MODEL,), weight, cutover, None, records)
        self.journal.append("verdict", f"shift {MODEL}", found.result,
                            {"weight": weight, **found.as_dict(), "raw": raw})  # fmt: skip
        self.journal.append("approved", MODEL, f"{weight:g} %", {"weight": weight})

    def _request(self, side: str) -> dict[str, Any]:
        ttft = self.dice.lognormvariate(5.0 if side == "vllm" else 6.2, 0.35)
        return {"ts": self.clock.at, "id": "r-1", "route": MODEL, "model": MODEL, "side": side, "status": 200,
                "outcome": "complete", "ttft_ms": round(ttft, 1), "total_ms": round(ttft * 6, 1), "held_ms": None,
                "failover": False, "forced": False, "uri": f"/v1/chat/completions?q={LIVE}", "weight": 10.0}  # fmt: skip

    def _cutover(self) -> None:
        self.clock.pass_(1800)
        self.journal.begin("cutover")
        self._shift(10)

    def _done(self) -> None:
        self._shift(50)
        self._shift(100)
        self.journal.move("route", MODEL, Event.ARRIVED)
        self.journal.end("done", 0)

    def _back(self) -> None:
        self.clock.pass_(7200)
        self.journal.begin("rollback")
        self.journal.append("weights", self.spec.name, f"{MODEL} 0 %",
                            {"weights": {MODEL: 0.0}, "at": self.clock.at, "version": 9})  # fmt: skip
        self.journal.append("approved", MODEL, "0 %", {"weight": 0.0})
        self.journal.move("route", MODEL, Event.ROLLED_BACK)
        self.journal.end("done", 0)


def _facts() -> Facts:
    shape = {"general.architecture": "llama", "llama.block_count": 32, "llama.embedding_length": 4096,
             "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8, "llama.context_length": 131072,
             "general.parameter_count": 8_030_261_248}  # fmt: skip
    model = Model(MODEL, size=4_920_000_000, digest="46e0c10c039e", family="llama", parameter_size="8.0B",
                  quantization="Q4_K_M", architecture=shape)  # fmt: skip
    container = OllamaContainer("ollama", "c0ffee", "ollama/ollama:0.32.6", "127.0.0.1", 11434)
    traffic = Traffic(source="log", origin="container ollama", begin=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1.7892e9)),
                      seconds=604800.0, requests=18204, concurrency=Spread(18204, 2, 5, 6, 7),
                      latency=Spread(18204, 2.1, 14.8, 31.0, 62.0), over_30s=0.011, errors=12, cancelled=31,
                      queue_hours_per_week=6.4)  # fmt: skip
    return Facts(
        OllamaFacts("http://127.0.0.1:11434", "0.32.6", (model,), (), container),
        gpus=(Gpu("0", "GPU-7f3", "NVIDIA GeForce RTX 4090", 24 * GIB, 24 * GIB, 8.9),),
        traffic=traffic,
    )
