"""The summary of a load test on a terminal: 80 columns, no colour needed. Pure."""

from __future__ import annotations

from typing import Any

from orchestrator.stats import minimum_n

_WIDE = 79


def text(summary: dict[str, Any]) -> str:
    """Return the whole summary."""
    lines: list[str] = []
    for side in dict.fromkeys(one["side"] for one in summary["levels"]):
        levels = [one for one in summary["levels"] if one["side"] == side]
        lines += ["", f"{summary['model']} on {side}", *_table(levels), *_notes(levels)]
        if side in summary["ceiling"]:
            lines += _wrapped(f"  ceiling: {summary['ceiling'][side]['text']}")
    for side, first in summary["first"].items():
        lines += _wrapped(f"first request on {side}: {_first(first)}")
    for one in summary["failed_warmups"]:
        lines += _wrapped(f"{one['side']} failed the warm-up and was left alone: {one['outcome']}, {one['error']}")
    if summary["door"]:
        lines += _wrapped(_door(summary["door"]))
    if summary["stopped"]:
        lines += _wrapped(f"stopped early: {summary['stopped']}")
    return "\n".join(lines).strip("\n")


def _table(levels: list[dict[str, Any]]) -> list[str]:
    if any(one.get("article") for one in levels):
        return _article(levels)
    head = f"  {'level':14}{'n':>5}{'fail':>5}{'TTFT p50':>10}{'p95':>9}{'E2E p50':>10}{'p95':>9}{'tok/s':>8}"
    with_slo = any(one.get("goodput") for one in levels)
    rows = [head + (f"{'good':>6}" if with_slo else "")]
    for one in levels:
        failed = one["n"] - one["outcomes"].get("complete", 0)
        rate = one["output_tokens_per_s"]
        cells = "".join((_ms(one["ttft_ms"]["p50"], 10), _ms(one["ttft_ms"]["p95"], 9), _ms(one["e2e_ms"]["p50"], 10),
                         _ms(one["e2e_ms"]["p95"], 9)))  # fmt: skip
        share = (one.get("goodput") or {}).get("share")
        good = f"{share:6.0%}" if share is not None else f"{'-':>6}" if with_slo else ""
        mark = "*" if one["tokens_estimated"] else ""
        row = f"  {one['level']:14.14}{one['n']:>5}{failed:>5}{cells}{_number(rate) + mark:>8}{good}"
        rows.append(row)
    return rows + _intervals(levels[-1])


def _intervals(top: dict[str, Any]) -> list[str]:
    told = []
    for name, words in (("ttft_ms", "TTFT"), ("e2e_ms", "E2E"), ("tpot_ms", "TPOT")):
        for q in ("p50", "p95", "p99"):
            entry = top[name][q]
            if entry["low"] is not None:
                told.append(f"{words} {q} {span(entry['value'])} ({span(entry['low'])} to {span(entry['high'])})")
    gap = top["itl_ms"]["p99"]["value"]
    told += [f"ITL p99 {span(gap)} (n {top['itl_ms']['n']})"] if gap is not None else []
    return _wrapped(f"  {top['level']}, 95 % intervals: " + ", ".join(told)) if told else []


def _article(levels: list[dict[str, Any]]) -> list[str]:
    rows = [f"  {'at once':14}{'average':>10}{'P95':>10}{'n':>6}{'timeouts':>10}{'errors':>8}{'tok/s':>9}"]
    for one in levels:
        own = one["article"]
        p95 = span(own["p95_ms"]) if own["p95_ms"] is not None else own["p95_note"]
        average = span(own["average_ms"]) if own["average_ms"] is not None else "-"
        rows.append(f"  {one['level']:14}{average:>10}{p95:>13}{own['n']:>3}{own['timeouts']:>10}{own['errors']:>8}"
                    f"{_number(one['output_tokens_per_s']):>9}")  # fmt: skip
    return [*rows, "  whole answers; P95 by nearest rank, from 20 on"]


def _notes(levels: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for one in levels:
        if one.get("overloaded"):
            lines += _wrapped(f"  {one['level']}: overloaded, so no percentile means anything: {one['overloaded']}")
        for error in one["errors"][:2]:
            said = error["error"] or error["status"]
            lines += _wrapped(f"  {one['level']}: {error['count']} {error['outcome']}: {said}")
        if one.get("unseen", {}).get("requests"):
            lines += _wrapped(f"  {one['level']}: {one['unseen']['text']}")
        if one.get("engine"):
            lines += _wrapped(f"  {one['level']}: {_engine(one['engine'])}")
    limited = {one["level"]: sorted(set(one["client_limited"].values())) for one in levels if one["client_limited"]}
    if limited:
        first = "; ".join(next(iter(limited.values())))
        lines += _wrapped(f"  this client may have distorted {', '.join(limited)}: {first}")
    if any(one["ttft_ms"]["p95"]["note"] == "n too small" for one in levels) and not levels[0].get("article"):
        least = ", ".join(f"p{q} from {minimum_n(q)}" for q in (50, 95, 99))
        lines += _wrapped(f"  -: n too small: {least} answers")
    if any(one["tokens_estimated"] for one in levels):
        lines.append("  *: counted from the stream, as the server told no usage")
    return lines


def _engine(engine: dict[str, Any]) -> str:
    said = [f"vLLM ran {_number(engine['running_max'])} at once, {_number(engine['waiting_max'])} waited"]
    if engine["kv_max"] is not None:
        said.append(f"KV cache {engine['kv_max']:.0%}")
    if engine["preemptions"]:
        said.append(f"{engine['preemptions']:.0f} preemptions")
    if engine["cache_hit_share"]:
        said.append(f"{engine['cache_hit_share']:.0%} of the prompts' tokens from the prefix cache")
    return ", ".join(said)


def _first(first: dict[str, Any]) -> str:
    if first["ttft_ms"] is None:
        return str(first["outcome"])
    known = {True: ", the model was loaded", False: ", with the model to be loaded"}.get(first["loaded_before"], "")
    return f"first token after {span(first['ttft_ms'])}{known}"


def _door(door: dict[str, Any]) -> str:
    interval = door["added_interval"]
    about = f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    return (f"the checks' own door adds {door['added_ms']:+.2f} ms{about} to a request, "
            f"beside {door['beside']} (median of {door['n']})")  # fmt: skip


def _ms(entry: dict[str, Any], width: int) -> str:
    if entry["value"] is not None:
        return f"{span(entry['value']):>{width}}"
    return f"{'>' + span(entry['maximum']) if entry['note'] == 'overloaded' and entry['maximum'] else '-':>{width}}"


def span(ms: float) -> str:
    """Return a duration in ms as people read it."""
    if ms >= 10_000:
        return f"{ms / 1000:.0f} s"
    if ms >= 1_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _wrapped(line: str) -> list[str]:
    indent = len(line) - len(line.lstrip())
    lines, now = [], " " * indent
    for word in line.split():
        if len(now) + 1 + len(word) > _WIDE and now.strip():
            lines.append(now)
            now = " " * (indent + 2)
        now = f"{now} {word}" if now.strip() else now + word
    return [*lines, now]
