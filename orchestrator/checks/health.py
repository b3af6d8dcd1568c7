"""Health gate: the engine answers, serves what it should, and one token comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from orchestrator.checks import Judgement, Verdict
from orchestrator.clients.openai import OpenAI, Unreachable
from orchestrator.errors import MigrateError

Kind = Literal["generate", "embedding"]


def check_health(
    client: OpenAI,
    expected_root: str,
    served_names: Sequence[str],
    *,
    target: str = "vllm",
    kind: Kind = "generate",
    adapters: Mapping[str, str] | None = None,
) -> Verdict:
    """Ask the engine behind `client` three questions in turn; the first answer that is wrong ends the check.

    `expected_root` is the model that the engine was started with, `served_names` what it must answer to,
    `adapters` its LoRA adapters: name to the path that it was given.
    """
    evidence: dict[str, Any] = {"expected_root": expected_root, "served_names": list(served_names), "kind": kind,
                                "adapters": dict(adapters or {})}  # fmt: skip
    for question in (_answers, _serves, _gives_one):
        try:
            question(client, evidence)
        except Unreachable as failure:
            evidence["problem"] = f"no answer: {failure.evidence or failure.message}"
        except MigrateError as failure:
            said = f"{failure.message}: {failure.evidence}" if failure.evidence else failure.message
            evidence["problem"] = said
        if _problem(evidence):
            evidence["failed_at"] = question.__name__.strip("_")
            break
    result, summary = rejudge(evidence)
    return Verdict("health", target, result, summary, evidence)


def rejudge(evidence: dict[str, Any]) -> tuple[Judgement, str]:
    """Return result and summary from the evidence alone: of one engine, or of each of its replicas."""
    if "replicas" in evidence:
        copies = {name: rejudge(one) for name, one in evidence["replicas"].items()}
        failed = next((name for name, (result, _) in copies.items() if result != "pass"), None)
        which = f"replica {failed}: " if failed else f"each of {len(copies)} replicas "
        result, summary = copies[failed] if failed else next(iter(copies.values()))
        return result, which + summary
    problem = _problem(evidence)
    if problem:
        return "fail", problem
    token = "an embedding" if evidence["kind"] == "embedding" else "a token"
    adapters = evidence["adapters"]
    loaded = f", with LoRA {', '.join(adapters)}" if adapters else ""
    names = ", ".join(evidence["served_names"])
    return "pass", f"answers, serves {names} from {evidence['expected_root']}{loaded}, gave {token}"


def _problem(evidence: dict[str, Any]) -> str:
    """What is wrong, as far as the questions have been asked; empty if nothing is."""
    if "problem" in evidence:
        return str(evidence["problem"])
    if "models" in evidence:
        wrong = _wrongly_served(evidence)
        if wrong:
            return wrong
    if "answer" in evidence:
        return _nothing_given(evidence)
    return ""


def _answers(client: OpenAI, evidence: dict[str, Any]) -> None:
    client.health()
    evidence["health"] = 200


def _serves(client: OpenAI, evidence: dict[str, Any]) -> None:
    models = client.models()
    evidence["models"] = [{"id": m.id, "root": m.root, "max_model_len": m.max_model_len} for m in models]


def _wrongly_served(evidence: dict[str, Any]) -> str:
    served = {model["id"]: model["root"] for model in evidence["models"]}
    missing = [name for name in evidence["served_names"] if name not in served]
    if missing:
        return f"does not serve {', '.join(missing)}, but {', '.join(served) or 'nothing'}"
    wrong = {served[name] for name in evidence["served_names"]} - {evidence["expected_root"]}
    if wrong:
        found = ", ".join(sorted(str(root) for root in wrong))
        return f"serves another model: {found} instead of {evidence['expected_root']}"
    # A name that is no adapter of vLLM's would be answered by the base model, without a word.
    lost = [name for name in evidence["adapters"] if name not in served]
    if lost:
        return f"has not loaded the LoRA adapter {', '.join(lost)}"
    bare = [name for name in evidence["adapters"] if served[name] == evidence["expected_root"]]
    return f"answers {', '.join(bare)} with the base model, not with its LoRA adapter" if bare else ""


def _gives_one(client: OpenAI, evidence: dict[str, Any]) -> None:
    name = evidence["served_names"][0]
    if evidence["kind"] == "embedding":
        answer = client.embeddings({"model": name, "input": "one word"})
        vector = (answer.get("data") or [{}])[0].get("embedding") or []
        evidence["answer"] = {"dimension": len(vector), "null": not any(vector), "usage": answer.get("usage")}
        return
    body = {"model": name, "messages": [{"role": "user", "content": "Say one word."}], "max_tokens": 1}
    answer = client.chat({**body, "temperature": 0})
    evidence["answer"] = {"choices": answer.get("choices"), "usage": answer.get("usage")}


def _nothing_given(evidence: dict[str, Any]) -> str:
    answer = evidence["answer"]
    if evidence["kind"] == "embedding":
        return "" if answer["dimension"] and not answer["null"] else "answered without an embedding"
    tokens = (answer["usage"] or {}).get("completion_tokens", 0)
    return "" if answer["choices"] and tokens >= 1 else "answered without generating a token"
