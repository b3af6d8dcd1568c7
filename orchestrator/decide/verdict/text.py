"""The verdict and the tuning plan as plain lines, for someone who sees this tool for the first time."""

from __future__ import annotations

import textwrap

from orchestrator.decide.cited import cited
from orchestrator.decide.tuning import Setting
from orchestrator.decide.verdict import Verdict
from orchestrator.decide.verdict.citations import HEADING, advice_lines, figure_lines
from orchestrator.decide.verdict.parts import Row, Symptom, duration
from orchestrator.decide.vram import MIB

_WIDTH = 110
_HEADLINES = {
    "stay": "STAY on Ollama: nothing known says that vLLM would serve you better",
    "tune": "STAY on Ollama, BUT TUNE it: settings come first, vLLM later if they do not help",
    "consider": "CONSIDER vLLM: there are grounds for it, and grounds against or missing",
    "migrate": "MIGRATE to vLLM",
    "cannot": "CANNOT migrate on this machine",
}
_NOTHING = "CONSIDER vLLM is all that can be said: the load is UNKNOWN, so this is no recommendation yet"
_NEXT = {
    "stay": "Next: nothing has to be done. The settings below are what Ollama itself still offers. "
            "`migrate plan --force` plans a migration all the same.",
    "tune": "Next: apply the settings below, then run `migrate plan` again after a working week. "
            "`migrate plan --force` plans a migration all the same.",
    "consider": "Next: read the plan below; it changes nothing by itself. Fill in what is missing, then decide.",
    "migrate": "Next: read the plan below; it changes nothing by itself.",
    "cannot": "Next: stay on Ollama here, or plan for a machine with a GPU that vLLM runs on.",
}  # fmt: skip
_EVIDENCE = (
    "measured: seen on this system; asked, stated: from migrate.yaml or a flag; cited: an article's claim, not ours; "
    "unknown: nobody has said"
)
_PROXY = "Next: put a proxy (LiteLLM) before Ollama and move the clients to it; the plan below waits for an operator."


def verdict_lines(verdict: Verdict) -> list[str]:
    """Return the verdict: headline, reasons in order, thresholds, symptoms, what is missing, what to do next."""
    lines = [f"Verdict: {headline(verdict)}", "", "Why, in the order in which it counts:"]
    lines += [line for one in verdict.reasons for line in _item(f"[{one.evidence}] {one.text}{_arrow(one.points)}")]
    proxy = verdict.kind == "consider" and any(one.kind == "capacity" for one in verdict.reasons)
    return [*lines, "", *evidence_lines(verdict), "", *_wrapped(_PROXY if proxy else _NEXT[verdict.kind])]


def evidence_lines(verdict: Verdict) -> list[str]:
    """Return what stands behind verdict and reasons: thresholds, symptoms, and what is missing."""
    lines = [*_wrapped(f"({_EVIDENCE})"), "", *_thresholds(verdict), "", *_signs(verdict.symptoms)]
    lost = "not known" if verdict.hours_lost is None else f"{verdict.hours_lost:.1f}"
    lines += ["", f"Hours lost per week waiting behind others: {lost}"]
    if verdict.missing:
        lines += ["", "Not known, and how to find out:"]
        lines += [line for one in verdict.missing for line in _item(f"{one.what}: {one.how}")]
    return lines


def headline(verdict: Verdict) -> str:
    """Return the verdict in one sentence."""
    if verdict.kind == "consider" and any(one.kind == "evidence" for one in verdict.reasons):
        return _NOTHING
    return _HEADLINES[verdict.kind]


def _arrow(points: str) -> str:
    return f" -> {'stay, but tune' if points == 'tune' else points}" if points else ""


def _thresholds(verdict: Verdict) -> list[str]:
    load = verdict.load
    peak = "unknown" if load.peak is None else f"{load.peak:g}"
    p95 = "unknown" if load.p95 is None else f"{load.p95:g}"
    lines = [f"Requests at once here: peak {peak}, p95 of the busy time {p95} ({load.evidence}). What articles cite:",
             f"  {'':5}{'peak':<9}{'p95':<9}{'time':<12}rule"]  # fmt: skip
    lines += [_row(row) for row in verdict.table]
    lines += ["  Where these figures come from (cited; none was measured here):"]
    for one in cited().sources.values():
        lines += _wrapped(f'{one.id}: "{one.title}", {one.date}; hardware: {one.hardware}', "    ")
    lines.append("  They contradict each other:")
    topics = _topics(verdict)
    for item in cited().contradictions:
        if item.topic in topics:
            answers = "; ".join(f"{key}: {answer}" for key, answer in item.answers.items())
            lines += _wrapped(f"{item.question}? {answers}. Checked: {item.checked}.", "    ")
    lines += ["", f"{HEADING}, nearest to this load:"]
    lines += [line for one in figure_lines(load.usual) for line in _item(one)]
    if verdict.kind in ("consider", "migrate"):
        lines += ["", f"{HEADING}, advice on vLLM (what this plan sets, and why, is above):"]
        lines += [line for one in advice_lines("vllm") for line in _item(one)]
    return lines


def _topics(verdict: Verdict) -> set[str]:
    """What the reader of this verdict may want to weigh."""
    usual = verdict.load.usual
    known = {
        "load": True,
        "few": usual is not None and usual < 3,
        "stated": verdict.load.evidence == "stated",
        "hardware": verdict.kind == "cannot",
        "vllm": verdict.kind == "migrate",
        "ollama": verdict.kind == "tune",
        "first_token": any("first token" in one.text for one in verdict.reasons),
        "automation": any(one.text.startswith("CI") or "CI or" in one.text for one in verdict.reasons),
    }
    return {topic for topic, matters in known.items() if matters}


def _row(row: Row) -> str:
    def word(value: bool | None) -> str:
        if value is None:
            return "?"
        return "applies" if value else "no"

    time = "" if row.seconds is None else duration(row.seconds)
    return f"  {row.threshold.source.id:5}{word(row.by_peak):<9}{word(row.by_p95):<9}{time:<12}{row.threshold.text}"


def _signs(signs: tuple[Symptom, ...]) -> list[str]:
    met = sum(one.met is True for one in signs)
    unknown = sum(one.met is None for one in signs)
    lines = [f"Six symptoms of an outgrown Ollama (S3): {met} met, {unknown} unknown; three say migrate"]
    for one in signs:
        word = "unknown" if one.met is None else "yes" if one.met else "no"
        lines += _item(f"{word}: {one.text} [{one.evidence}] {one.why}")
    return lines


def tuning_lines(settings: list[Setting] | tuple[Setting, ...]) -> list[str]:
    """Return today's Ollama, setting by setting: what to set, why, its VRAM, what Ollama really does with it."""
    lines = ["Settings of today's Ollama (its environment; Ollama has to be restarted to read them):"]
    for one in settings:
        action = f"set {one.proposed}" if one.changes and one.proposed != "unset" else "keep"
        action = "remove it" if one.changes and one.proposed == "unset" else action
        lines.append(f"  {one.name}: today {one.today}; {action}; VRAM {_cost(one.vram_cost)}")
        lines += _wrapped(f"why: {one.why}", "    ")
        lines += _wrapped(f"what Ollama does with it: {one.really}", "    ")
    known = [one.vram_cost for one in settings if one.vram_cost is not None]
    unsaid = [one.name for one in settings if one.vram_cost is None]
    total = f"VRAM of all together: {_cost(sum(known))}"
    lines.append(f"  {total}; not counted: {', '.join(unsaid)}" if unsaid else f"  {total}")
    advice = advice_lines("ollama", [one.name for one in settings])
    return [*lines, f"  {HEADING}:", *(line for one in advice for line in _wrapped(one, "    "))] if advice else lines


def _cost(size: int | None) -> str:
    if size is None:
        return "cannot be said"
    if abs(size) < MIB:
        return "unchanged"
    return f"{size / 2**30:+.1f} GiB"


def _item(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip
