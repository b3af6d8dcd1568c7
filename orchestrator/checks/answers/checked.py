"""Groups of questions whose answers can be checked: what one side knows and the other does not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.checks.answers.assertions import checkable, holds
from orchestrator.checks.answers.record import Reply
from orchestrator.checks.answers.statistics import Flips, Limits, chance_of_loss, flips, noise_floor, prompts_needed
from orchestrator.checks.answers.terms import Asked, Group, Terms

ALL = "answers"     # every checkable prompt together


def is_checked(one: Asked) -> bool:
    """Whether a case is judged by what its answers say."""
    return one.both and one.case.ask == "equal" and bool(checkable(one.case.asserts))


def passes(asked: Asked, reply: Reply) -> bool:
    """Whether an answer holds everything that its case asks of it."""
    return not reply.flaw and all(holds(rule, reply, at) for at, rule in checkable(asked.case.asserts))


def unmet(asked: Asked, reply: Reply) -> str:
    """Say what an answer does not hold, empty when it holds everything."""
    if reply.flaw:
        return reply.flaw + (f": {reply.error}" if reply.error else "")
    for at, rule in checkable(asked.case.asserts):
        if not holds(rule, reply, at):
            if rule["type"].removeprefix("not-") == "code":
                said = str(reply.ran.get(str(at), {}).get("said", "")).strip().splitlines()
                return f"its code fails: {said[-1] if said else 'ended early'}"
            return f"not {rule['type']} {rule.get('value')!r}"[:160] if rule.get("value") is not None else rule["type"]
    return ""


def noise(asked: Sequence[Asked]) -> tuple[int, int]:
    """Count the sides of prompts that change their own outcome, and those that were asked more than once."""
    outcomes = [[passes(one, reply) for reply in side] for one in asked for side in (one.old, one.new) if len(side) > 1]
    return sum(len(set(found)) > 1 for found in outcomes), len(outcomes)


def judge_checked(asked: Sequence[Asked], terms: Terms) -> list[Group]:
    """Judge each group, and all of them together as `answers`."""
    chosen = [one for one in asked if is_checked(one)]
    names = list(dict.fromkeys(one.case.group for one in chosen))
    unsteady, repeated = noise(chosen)
    floor = noise_floor(unsteady, repeated)
    limits = Limits(terms.alpha, terms.loss, len(names) + 1)
    found = [_judge(name, [one for one in chosen if one.case.group == name], floor, limits) for name in names]
    if len(names) > 1:
        found.append(_judge(ALL, chosen, floor, limits))
        found[-1].facts["noise"] = {"unsteady": unsteady, "asked_again": repeated}
    return found


def _judge(name: str, asked: Sequence[Asked], floor: float, limits: Limits) -> Group:
    prompts = [_prompt(one) for one in asked]
    what = [one["what"] for one in prompts]
    lost, gained, held = what.count("lost"), what.count("gained"), what.count("both")
    times = min((min(len(one["ollama"]), len(one["vllm"])) for one in prompts if one["what"] == "lost"), default=1)
    found = flips(lost, gained, len(prompts), chance_of_loss(floor, times), limits)
    facts = {**asdict(found), "held": held, "neither": what.count("neither"), "unsteady": what.count("unsteady"),
             "needed": prompts_needed(found, limits), "prompts": prompts if name != ALL else []}  # fmt: skip
    refused = [one for one in prompts if one["refused"]]
    if refused and name != ALL:
        why = f"vLLM refuses {len(refused)} of {len(prompts)} that Ollama answers, {_named(refused)}"
        return Group(name, "fail", why, facts=facts)
    if not held + lost + gained + what.count("unsteady"):
        thought = all(reply.flaw == "only reasoning" for one in asked for reply in one.old)
        why = "its thinking uses up every answer, raise parity.max_tokens" if thought else "no test"
        return Group(name, "inconclusive", f"Ollama itself passes none of {len(prompts)}: {why}", facts=facts)
    return _said(name, prompts, found, facts)


def _said(name: str, prompts: list[dict[str, Any]], found: Flips, facts: dict[str, Any]) -> Group:
    lost = [one for one in prompts if one["what"] == "lost"]
    count = f"{found.lost} of {found.total} lost, {found.gained} gained"
    first = f", {_named(lost)}" if lost else ""
    if found.outcome == "fail":
        return Group(name, "fail", f"{count}{first} (p {found.p:.3f})", facts=facts)
    if found.outcome == "unclear":
        needed = f"; some {facts['needed']} prompts more would tell" if facts["needed"] else ""
        return Group(name, "inconclusive", f"{count}{first}: more than noise explains, too few to call worse{needed}",
                     found.suspicious, facts)  # fmt: skip
    if found.lost:
        return Group(name, "pass", f"{count}, within what may be lost by chance{first}", facts=facts)
    kept = f"{facts['held']} of {found.total} right on both sides"
    return Group(name, "pass", kept + (f", {found.gained} gained" if found.gained else ""), facts=facts)


def _named(prompts: Sequence[dict[str, Any]]) -> str:
    first = prompts[0]
    more = f" and {len(prompts) - 1} more" if len(prompts) > 1 else ""
    return f"{first['id']} ({first['why']}){more}" if first["why"] else first["id"] + more


def _prompt(one: Asked) -> dict[str, Any]:
    old = [passes(one, reply) for reply in one.old]
    new = [passes(one, reply) for reply in one.new]
    if len(set(old)) > 1 or len(set(new)) > 1:
        what = "unsteady"
    else:
        what = {(True, True): "both", (False, False): "neither", (True, False): "lost"}.get((old[0], new[0]), "gained")
    refused = all(reply.status == 200 for reply in one.old) and all(reply.refused for reply in one.new)
    worst = next((reply for reply, ok in zip(one.new, new, strict=True) if not ok), None)
    return {"id": one.case.id, "ollama": old, "vllm": new, "what": what, "refused": refused,
            "why": unmet(one, worst) if worst else ""}  # fmt: skip
