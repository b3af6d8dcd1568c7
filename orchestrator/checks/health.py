"""Health gate: the engine answers, serves what it should, and one token comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from orchestrator.checks import Verdict
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
            problem = question(client, evidence)
        except Unreachable as failure:
            problem = f"no answer: {failure.evidence or failure.message}"
        except MigrateError as failure:
            problem = f"{failure.message}: {failure.evidence}" if failure.evidence else failure.message
        if problem:
            return Verdict("health", target, "fail", problem, {**evidence, "failed_at": question.__name__.strip("_")})
    token = "an embedding" if kind == "embedding" else "a token"
    loaded = f", with LoRA {', '.join(adapters)}" if adapters else ""
    summary = f"answers, serves {', '.join(served_names)} from {expected_root}{loaded}, gave {token}"
    return Verdict("health", target, "pass", summary, evidence)


_Question = Callable[[OpenAI, dict[str, Any]], str]


def _answers(client: OpenAI, evidence: dict[str, Any]) -> str:
    client.health()
    evidence["health"] = 200
    return ""


def _serves(client: OpenAI, evidence: dict[str, Any]) -> str:
    models = client.models()
    evidence["models"] = [{"id": m.id, "root": m.root, "max_model_len": m.max_model_len} for m in models]
    served = {model.id: model.root for model in models}
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


def _gives_one(client: OpenAI, evidence: dict[str, Any]) -> str:
    name = evidence["served_names"][0]
    if evidence["kind"] == "embedding":
        return _gives_embedding(client, name, evidence)
    body = {"model": name, "messages": [{"role": "user", "content": "Say one word."}], "max_tokens": 1}
    answer = client.chat({**body, "temperature": 0})
    evidence["answer"] = {"choices": answer.get("choices"), "usage": answer.get("usage")}
    tokens = (answer.get("usage") or {}).get("completion_tokens", 0)
    return "" if answer.get("choices") and tokens >= 1 else "answered without generating a token"


def _gives_embedding(client: OpenAI, name: str, evidence: dict[str, Any]) -> str:
    answer = client.embeddings({"model": name, "input": "one word"})
    data = answer.get("data") or [{}]
    vector = data[0].get("embedding") or []
    evidence["answer"] = {"dimension": len(vector), "usage": answer.get("usage")}
    return "" if vector and any(vector) else "answered without an embedding"
