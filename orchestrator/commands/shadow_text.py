"""What `migrate shadow` prints."""

from __future__ import annotations

from typing import Any

from orchestrator.commands.session import clock

_SHOWN = 200        # characters of a request or an answer on the screen; --json has them whole


def lines(one: dict[str, Any]) -> list[str]:
    share = f"vLLM is asked {one['percent']:g} % of what Ollama answers; keeps {one['keep']}" if one["percent"] else \
        f"off; on: migrate shadow {one['model']} --percent 2"  # fmt: skip
    said = [f"{one['model']}: {share}"]
    if one["weight"] is not None and one["in_effect"] != one["percent"]:
        said.append("! the gateway does not do so yet: migrate up")
    if one["percent"] and one["weight"] is not None and one["weight"] >= 100:
        said.append("! its weight is 100: Ollama answers nothing, so there is nothing to compare")
    if one["samples"]:
        said.append("  samples since the gateway's start: {sampled} drawn, {sent} sent, {dropped} dropped"
                     .format(**one["samples"]))  # fmt: skip
    said += _numbers(one["compared"], running=one["running"])
    for record in one["records"]:
        said += _shown(record)
    return said


def _numbers(found: dict[str, Any], *, running: bool) -> list[str]:
    if not found["count"]:
        return ["  nothing was compared yet" if running else "  the service that keeps comparisons does not run"]
    lines = [f"  {found['count']} kept, from {clock(found['first'] or 0)} to {clock(found['last'] or 0)}"
             + (f"; vLLM gave no answer to {found['failed']}" if found["failed"] else "")]  # fmt: skip
    if found["compared"]:
        median, least = found["likeness_median"], found["likeness_min"]
        lines.append(f"  texts: {found['same_share']:.0%} the same ({found['same']} of {found['compared']}), "
                     f"likeness {median:.2f} (median), {least:.2f} (least)")  # fmt: skip
    if found["ollama_ms_median"] is not None and found["vllm_ms_median"] is not None:
        lines.append(f"  whole answer, median: Ollama {found['ollama_ms_median']:.0f} ms, "
                     f"vLLM {found['vllm_ms_median']:.0f} ms, asked one at a time")  # fmt: skip
    return lines


def _shown(record: dict[str, Any]) -> list[str]:
    alike = "not compared" if record["likeness"] is None else f"likeness {record['likeness']:.2f}"
    when = clock(record["at"]) if record["at"] is not None else ""
    told = {"asked": record.get("request")} | {side: record[side].get("text") for side in ("ollama", "vllm")}
    return [f"  {plain(record['id'], 40)} {when} {plain(record['uri'], 80)}: {alike}"] + [
        f"    {name}: {plain(text or '', _SHOWN)}" for name, text in told.items()
    ]


def stored(volume: str) -> str:
    return (f"stored: {volume}, in files that only root reads, and nowhere else; "
            "migrate down --volumes removes them")  # fmt: skip


def plain(text: str, most: int) -> str:
    """Return the beginning of a text as one line that no terminal obeys."""
    shown = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * most]).split())
    return shown if len(shown) <= most and len(text) <= 4 * most else shown[:most] + "…"
