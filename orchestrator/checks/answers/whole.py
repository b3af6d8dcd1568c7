"""Parity as a whole: the smoke prompts in their wire form first, then the answers of the suites.

Everything that is asked becomes a raw line; `recompute` makes the verdict of them alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.checks import Side, Verdict, parity
from orchestrator.checks.answers.ask import Manner, Progress, ask_both
from orchestrator.checks.answers.builtin import groups
from orchestrator.checks.answers.case import Case
from orchestrator.checks.answers.checked import ALL
from orchestrator.checks.answers.judge import evidence, gather, judge_answers, overall
from orchestrator.checks.answers.promptfoo import OWN
from orchestrator.checks.answers.shape import SHAPES
from orchestrator.checks.answers.terms import Group, Terms
from orchestrator.checks.answers.traffic import TRAFFIC
from orchestrator.checks.parity_rules import Terms as SmokeTerms
from orchestrator.checks.prompts import Prompt

SMOKE = "smoke"
_SAID = {
    "repeat_penalty": "the Modelfile's repeat_penalty acts on Ollama's answers and cannot be sent over /v1: vLLM gets "
                      "it as the engine's own default",
    "top_k": "the Modelfile's top_k acts on Ollama's answers; at temperature 0 it changes nothing",
    "stop": "the Modelfile's stop words end Ollama's answers where a request names none",
    "num_predict": "the Modelfile's num_predict bounds Ollama's answers where a request names no max_tokens",
    "temperature": "the Modelfile's temperature is overridden with 1.0 by Ollama's own /v1",
    "top_p": "the Modelfile's top_p is overridden with 1.0 by Ollama's own /v1",
    "num_ctx": "the Modelfile's num_ctx bounds what Ollama reads of a long conversation",
}  # fmt: skip


def all_groups() -> tuple[str, ...]:
    """Return every group that may be left out."""
    named = (SMOKE, *SHAPES, *(name for name in groups() if name not in SHAPES), ALL, OWN, TRAFFIC)
    return tuple(dict.fromkeys(named))


def measure_parity(
    ollama: Side,
    vllm: Side,
    model: str,
    *,
    prompts: Sequence[Prompt],
    suite: Sequence[Case] = (),
    smoke: SmokeTerms,
    terms: Terms,
    manner: Manner,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Ask both sides everything and return the raw lines, the plan first; `progress` as in `ask_both`.

    The suites are asked only when the smoke prompts found both sides answering: else there is nothing to compare.
    """
    asked = [case for case in suite if case.group not in terms.skipped]
    lines: list[dict[str, Any]] = [{
        "kind": "plan", "check": "parity", "target": model, "smoke": asdict(smoke), "terms": asdict(terms),
        "manner": asdict(manner), "sides": [ollama.name, vllm.name], "notes": list(notes),
    }]  # fmt: skip
    if SMOKE not in terms.skipped:
        lines += parity.ask_pairs(ollama, vllm, model, prompts, manner.max_tokens, manner.timeout_s, progress)
        if parity.judge_lines(lines, smoke).result != "pass":
            return lines
    return lines + (ask_both(ollama, vllm, model, asked, manner, progress) if asked else [])


def recompute(lines: Iterable[dict[str, Any]]) -> Verdict:
    """The verdict from the raw lines alone; ValueError where they are not of this check."""
    lines = list(lines)
    plan = next((line for line in lines if line.get("kind") == "plan"), None)
    if plan is None or plan.get("check") != "parity":
        raise ValueError("these lines have no plan of a parity check")
    terms = Terms.of(plan["terms"])
    smoke = plan["smoke"]
    smoke_terms = SmokeTerms(smoke["model"], tuple(smoke["names"]), smoke["similarity"])
    asked = gather(lines)
    kinds = ("pair",) if asked else ("pair", "lost")    # what was lost among the suites is no matter of the smoke
    verdict = parity.judge_lines((line for line in lines if line["kind"] in kinds), smoke_terms)
    smoked = any(line["kind"] == "pair" for line in lines)
    if not asked:
        return verdict if smoked or SMOKE not in terms.skipped else _nothing(verdict, terms)
    return _joined(verdict, lines, plan, terms)


def _joined(smoke: Verdict, lines: Sequence[dict[str, Any]], plan: dict[str, Any], terms: Terms) -> Verdict:
    asked = gather(lines)
    found = judge_answers(asked, terms)
    smoked = any(line["kind"] == "pair" for line in lines)
    if smoked:
        found = [Group(SMOKE, smoke.result, smoke.summary), *found]
    lost = next((line for line in lines if line["kind"] == "lost"), None)
    result, summary = overall(found)
    if lost is not None:
        answered = any(line["kind"] == "answer" and line["side"] == "vllm" for line in lines)
        result = "fail" if lost["side"] == "vllm" and answered else "inconclusive"
        summary = f"{lost['side']} gave no answer any more: {lost['why']}"
    elif result == "pass" and smoked:
        summary = f"{smoke.summary}; {summary}"
    sampling = next((line for line in lines if line["kind"] == "sampling"), {})
    whole = {**smoke.evidence, **evidence(asked, found), "sampling": _sampling(sampling), "notes": plan["notes"]}
    return Verdict("parity", plan["target"], result, summary, whole)


def _nothing(smoke: Verdict, terms: Terms) -> Verdict:
    left = ", ".join(terms.skipped)
    return Verdict("parity", smoke.target, "inconclusive", f"nothing was asked; left out: {left}", smoke.evidence)


def _sampling(line: dict[str, Any]) -> dict[str, Any]:
    """What both sides were told, and in words what Ollama's Modelfile adds."""
    added = line.get("modelfile")
    notes = [f"{said} ({key} {added[key]})" for key, said in _SAID.items() if key in added] if added else []
    return {"sent": line.get("sent"), "modelfile": added, "notes": notes}
