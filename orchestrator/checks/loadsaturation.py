"""How full an engine was, its measured ceiling beside the plan's, and the max-num-seqs that follows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Point = Mapping[str, float | None]
# A KV cache is full when so much of it is used: vLLM preempts from there on.
FULL_KV = 0.95
# More users that bring no more than this share of output tokens a second bring nothing.
_FLAT = 0.05
_MARGIN_KV = 0.9


def engine_figures(polls: Sequence[Sequence[Point]]) -> dict[str, Any] | None:
    """What the engine's own metrics said during a level's runs; None where nobody read them.

    {n, running_max, waiting_max, waiting_share, kv_max, preemptions, cache_hit_share}: `waiting_share` of the looks
    saw requests that waited for a place; counters are differences over the level.
    """
    points = [point for poll in polls for point in poll]
    if not points:
        return None
    waiting = [value for point in points if (value := point.get("waiting")) is not None]
    queries, hits = _grown(polls, "cache_queries"), _grown(polls, "cache_hits")
    return {
        "n": len(points),
        "running_max": _most(points, "running"),
        "waiting_max": _most(points, "waiting"),
        "waiting_share": sum(value > 0 for value in waiting) / len(waiting) if waiting else None,
        "kv_max": _most(points, "kv"),
        "preemptions": _grown(polls, "preemptions"),
        "cache_hit_share": hits / queries if queries and hits is not None else None,
    }


def ceiling(levels: Sequence[Mapping[str, Any]], max_num_seqs: int) -> dict[str, Any]:
    """The measured ceiling of one engine from its closed levels, rising: [{users, ...level_figures}].

    {bound, running, planned, proposed, text}. bound: "kv" where preemptions or a full cache stopped it, "sequences"
    where requests waited although the cache had room, "compute" where more users brought no more tokens a second,
    "slo" where more users missed the objectives, "" where no level reached a limit.
    """
    seen = [level for level in levels if level.get("complete")]
    engines = [level["engine"] for level in seen if level.get("engine")]
    running = max((one["running_max"] or 0 for one in engines), default=0)
    bound, proposed, why = _bound(seen, engines, int(running), max_num_seqs)
    text = f"{why}: max_num_seqs {max_num_seqs}" + (f", proposed {proposed}" if proposed != max_num_seqs else " stays")
    return {"bound": bound, "running": int(running), "planned": max_num_seqs, "proposed": proposed, "text": text}


def _bound(
    seen: Sequence[Mapping[str, Any]], engines: Sequence[Mapping[str, Any]], running: int, planned: int
) -> tuple[str, int, str]:
    preempted = [one for one in engines if (one["preemptions"] or 0) > 0 or _full(one)]
    if preempted:
        calm = max((int(one["running_max"] or 0) for one in engines if one not in preempted), default=0)
        fits = calm or int(running * _MARGIN_KV)
        return "kv", min(planned, max(1, fits)), f"the KV cache was full with {running} requests running"
    best = _flat_from(seen)
    missed = _missed_from(seen)
    if missed is not None:
        return "slo", min(planned, missed), f"the objectives hold up to {missed} users"
    if best is not None and best < planned:
        return "compute", max(1, best), f"beyond {best} users no more tokens a second"
    queued = [one for one in engines if (one["waiting_max"] or 0) > 0]
    if queued and running >= planned and best is None:
        kv = max((one["kv_max"] or 0.0 for one in engines), default=0.0)
        room = int(planned * min(2.0, _MARGIN_KV / kv)) if kv > 0 else 2 * planned
        return "sequences", max(planned, room), f"requests waited for a place with {kv:.0%} of the KV cache used"
    return "", planned, f"no limit reached up to {max((level['users'] for level in seen), default=0)} users"


def _full(one: Mapping[str, Any]) -> bool:
    return (one["kv_max"] or 0.0) >= FULL_KV and (one["waiting_max"] or 0) > 0


def _flat_from(seen: Sequence[Mapping[str, Any]]) -> int | None:
    """The users from which on every further level gave no more tokens a second; None where the last one still rose."""
    rates = [(level["users"], level["output_tokens_per_s"]) for level in seen if level["output_tokens_per_s"]]
    if len(rates) < 2:
        return None
    most = max(rate for _, rate in rates)
    users = next(users for users, rate in rates if rate >= most * (1 - _FLAT))
    return users if users < rates[-1][0] else None


def _missed_from(seen: Sequence[Mapping[str, Any]]) -> int | None:
    """The most users with the objectives met by 95 of 100, where a higher level missed them."""
    judged = [(level["users"], level["goodput"]["share"]) for level in seen if level.get("goodput")]
    good = [users for users, share in judged if share is not None and share >= 0.95]
    bad = [users for users, share in judged if share is not None and share < 0.95]
    return max(good) if good and bad and max(bad) > max(good) else None


def _most(points: Sequence[Point], name: str) -> float | None:
    return max((value for point in points if (value := point.get(name)) is not None), default=None)


def _grown(polls: Sequence[Sequence[Point]], name: str) -> float | None:
    """What a counter grew by over all runs; a restart in between counts from 0."""
    total, told = 0.0, False
    for poll in polls:
        values = [value for point in poll if (value := point.get(name)) is not None]
        told = told or bool(values)
        total += sum(max(0.0, later - earlier) if later >= earlier else later
                     for earlier, later in pairwise(values))  # fmt: skip
    return total if told else None
