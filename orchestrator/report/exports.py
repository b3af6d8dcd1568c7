"""The load test's scenario for other tools, and its results as tables. Pure: a plan or raw lines in, files out."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import yaml

from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadshape import Level
from orchestrator.errors import UsageError
from orchestrator.rendering.environment import fill

REQUESTS = "load-requests.jsonl"
_MOST = 5000        # different requests of one level; a longer one begins again
_PATH = "/v1/chat/completions"


def k6(plan: LoadPlan, base: str) -> dict[str, str]:
    """Return a k6 script and its requests: every level but captured traffic."""
    levels = _levels(plan, ("closed", "constant", "poisson", "ramp"), "k6")
    executors = {level.label: _executor(plan, level) for level in levels}
    script = fill("export/load.k6.js.j2", base=base, path=_PATH, levels=executors, requests=REQUESTS,
                  model=_word(plan.model), timeout_s=plan.timeout_s, last=levels[-1].label,
                  poisson=any(level.shape == "poisson" for level in levels))  # fmt: skip
    return {"load.k6.js": script, REQUESTS: _requests(plan, levels)}


def _executor(plan: LoadPlan, level: Level) -> dict[str, Any]:
    most = f"{plan.level_s + plan.timeout_s:g}s"
    if level.shape == "closed":
        return {"executor": "shared-iterations", "vus": level.users, "iterations": level.requests, "maxDuration": most}
    users = max(1, min(plan.max_in_flight, level.requests))
    if level.shape == "ramp":
        lasts = level.requests / ((level.rate + level.rate_to) / 2)
        return {"executor": "ramping-arrival-rate", "startRate": _per_minute(level.rate), "timeUnit": "1m",
                "preAllocatedVUs": users,
                "stages": [{"target": _per_minute(level.rate_to), "duration": f"{lasts:.0f}s"}]}  # fmt: skip
    return {"executor": "constant-arrival-rate", "rate": _per_minute(level.rate), "timeUnit": "1m",
            "duration": f"{max(1.0, level.requests / level.rate):.0f}s", "preAllocatedVUs": users}  # fmt: skip


def _word(name: str) -> str:
    """Return a model's name for a comment, which it cannot end."""
    return re.sub(r"[^\w.:/@-]", "?", name)


def _per_minute(rate: float) -> int:
    return max(1, round(rate * 60))     # k6 takes whole numbers alone


def locust(plan: LoadPlan, base: str) -> dict[str, str]:
    """Return a locustfile and its requests: the closed levels, one after the other."""
    levels = _levels(plan, ("closed",), "locust, whose users form a closed loop,")
    listed = [{"name": level.label, "users": level.users, "requests": level.requests} for level in levels]
    script = fill("export/locustfile.py.j2", base=base, path=_PATH, levels=json.dumps(listed), requests=REQUESTS,
                  model=_word(plan.model), timeout_s=plan.timeout_s)  # fmt: skip
    return {"locustfile.py": script, REQUESTS: _requests(plan, levels)}


def guidellm(plan: LoadPlan, base: str) -> dict[str, str]:
    """Return GuideLLM's scenario files (0.8): one for the closed levels, one for each kind of open ones."""
    levels = _levels(plan, ("closed", "constant", "poisson"), "GuideLLM")
    files = {}
    for shape in dict.fromkeys(level.shape for level in levels):
        kind = "concurrent" if shape == "closed" else shape
        name = f"guidellm-{kind}.yaml"
        own = [level for level in levels if level.shape == shape]
        text = yaml.safe_dump(_guidellm(plan, base, kind, own), sort_keys=False, allow_unicode=True, width=120)
        files[name] = fill("export/guidellm.yaml.j2", file=name, model=_word(plan.model)) + text
    return files


def _guidellm(plan: LoadPlan, base: str, kind: str, levels: Sequence[Level]) -> dict[str, Any]:
    most = max(level.requests for level in levels)
    bodies = [json.loads(plan.body(f"{levels[-1].label}/0/{n}")) for n in range(min(most, _MOST))]
    rows = [{"prompt": body["messages"][-1]["content"], "output_tokens_count": body["max_tokens"]} for body in bodies]
    key = "profile.streams" if kind == "concurrent" else "profile.rate"
    spec: dict[str, Any] = {
        "backend": {"kind": "openai_http", "target": base, "model": plan.model, "request_format": _PATH,
                    "timeout": plan.timeout_s, "http2": False, "validate_backend": False,
                    "extras": {"body": {"temperature": plan.temperature, "seed": plan.seed}}},
        "profile": {"kind": kind, key.removeprefix("profile."): [_size(levels[0])]},
        "constraints": [{"kind": "max_requests", "count": levels[0].requests},
                        {"kind": "max_duration", "seconds": plan.level_s + plan.timeout_s}],
        "data": [{"kind": "in_memory_dict_list", "data": rows}],
    }  # fmt: skip
    slo = {name: value for name, value in (("ttft_ms", (plan.slo or {}).get("ttft")),
           ("tpot_ms", (plan.slo or {}).get("tpot")), ("e2el_ms", (plan.slo or {}).get("e2e"))) if value}  # fmt: skip
    if slo:
        spec["metrics"] = {"kind": "generative", "slo": slo}
    benchmarks = [{key: [_size(level)], "constraints[0].count": level.requests} for level in levels]
    return {"metadata": {"labels": {"made_by": "migrate export load"}}, "spec": spec, "benchmarks": benchmarks}


def _size(level: Level) -> float | int:
    return level.users if level.shape == "closed" else level.rate


def _levels(plan: LoadPlan, shapes: Sequence[str], tool: str) -> list[Level]:
    found = [level for level in plan.levels if level.shape in shapes and level.requests > 0]
    if not found:
        kinds = ", ".join(sorted({level.shape for level in plan.levels})) or "none"
        raise UsageError(
            f"{tool} has no such levels: the load test's are {kinds}",
            hint="name load/users in migrate.yaml; captured traffic is never written into a file for another tool",
        )
    return found


def _requests(plan: LoadPlan, levels: Iterable[Level]) -> str:
    """One line per request: its level and its body, the very ones that `migrate` sends."""
    lines = [
        json.dumps({"level": level.label, "body": json.loads(plan.body(f"{level.label}/0/{n}"))})
        for level in levels for n in range(min(level.requests, _MOST))
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


_COLUMNS = ("side", "level", "users", "repeat", "number", "at_ms", "outcome", "status", "send_lag_ms", "headers_ms",
            "ttft_ms", "e2e_ms", "tpot_ms", "longest_gap_ms", "prompt_tokens", "output_tokens", "finish_reason",
            "error")  # fmt: skip


def table(lines: Iterable[dict[str, Any]]) -> str:
    """Return one row per request as CSV; times in ms, `at_ms` since its level's start."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(lines))
    return out.getvalue()


def _rows(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen: dict[tuple[Any, ...], int] = {}
    for one in lines:
        if one.get("kind") != "request":
            continue
        place = (one.get("side"), one.get("level", one.get("users")), one.get("repeat"))
        seen[place] = number = seen.get(place, 0) + 1
        stamps = one.get("token_us") or []
        last, tokens = one.get("last_us"), one.get("output_tokens")
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        rest = (last - stamps[0]) / (tokens - 1) if stamps and last is not None and tokens and tokens > 1 else None
        yield {
            **{key: _safe(value) for key, value in one.items()}, "number": number,
            **{f"{name}_ms": None if value is None else round(value / 1000, 3) for name, value in (
                ("at", one.get("at_us")), ("send_lag", one.get("send_lag_us")), ("headers", one.get("headers_us")),
                ("ttft", stamps[0] if stamps else None), ("e2e", last), ("tpot", rest),
                ("longest_gap", max(gaps, default=None)))},
        }  # fmt: skip


def _safe(value: Any) -> Any:
    """A spreadsheet must not take an engine's message for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


