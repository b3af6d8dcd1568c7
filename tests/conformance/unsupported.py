"""What the stand-ins do not claim to imitate, each with its reason.

A rule looks at the case, not at its file's name, unless only the name tells how the server was started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from recorded import Case

Rule = tuple[Callable[[Case], object], str]
DAMAGED = re.compile(
    r"exceeds file size|llama-server|insufficient memory|running the model: |runner process|no longer running"
)


def _events(case: Case) -> list[dict]:
    lines = (line.removeprefix("data: ") for line in case.body.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


def _cut_by_repetition(case: Case) -> bool:
    """Return whether Ollama gave up on a text that repeats itself: no last line, no reason, no counts."""
    if case.status != 200:
        return False
    if case.path in {"/api/chat", "/api/generate"}:
        last = (_events(case) or [{}])[-1]
        return last.get("done") is False and "_debug_info" not in last
    if case.path != "/v1/chat/completions" or case.server != "ollama":
        return False
    whole = case.answer
    if whole:
        return whole["choices"][0].get("finish_reason") is None
    return "[DONE]" not in case.body


def _one_of(*paths: str) -> Callable[[Case], bool]:
    return lambda case: case.path.split("?")[0] in paths


def _named(pattern: str) -> Callable[[Case], object]:
    return lambda case: case.server == "vllm" and re.match(pattern, case.name)


OLLAMA: list[Rule] = [
    (lambda c: DAMAGED.search(c.body), "a damaged model or a runner that was killed: only real processes can fail so"),
    (
        lambda c: c.status == 404 and c.path == "/api/chat" and "try pulling it first" in c.body,
        "a manifest whose blob is missing",
    ),
    (lambda c: c.path == "/api/create" and c.request.get("files") and c.status == 200, "converting uploaded weights"),
    (_cut_by_repetition, "the model's own text decides whether it repeats itself"),
    (_one_of("/api/experimental/model-recommendations"), "a list that Ollama's cloud serves"),
    (_one_of("/api/experimental/web_search", "/api/experimental/web_fetch"), "services of Ollama's cloud"),
    (_one_of("/v1/audio/transcriptions"), "needs a model that hears"),
    (
        lambda c: c.path in {"/api/pull", "/api/push"} and c.status == 200 and '"success"' in c.body,
        "downloading from a registry",
    ),
]
VLLM: list[Rule] = [
    (_one_of("/docs", "/redoc", "/openapi.json"), "FastAPI's own pages"),
    (
        lambda c: c.path.startswith("/v1/responses/"),
        "stored responses (off by default in vLLM)",
    ),
    (_named("devmode_"), "developer mode (VLLM_SERVER_DEV_MODE) and sleeping"),
    (
        lambda c: c.status == 200 and isinstance(c.request.get("tool_choice"), (dict, str)) and "<tool_call>" in c.body,
        "a call that random weights never finish to write",
    ),
    (_one_of("/pooling", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"), "scoring and reranking"),
    (_one_of("/inference/v1/generate", "/v1/systemone"), "routes between vLLM's own parts"),
]


def reason(case: Case) -> str | None:
    """Return why a case is not claimed, or None when the stand-in must answer like the recording."""
    for matches, why in OLLAMA if case.server == "ollama" else VLLM:
        # A refusal on a route that is not imitated can still be right: 401, 404 and 405 are always claimed.
        if matches(case) and (case.status not in {401, 405} and not _absent(case)):
            return why
    return None


def _absent(case: Case) -> bool:
    return case.status == 404 and case.server == "vllm" and '"detail"' in case.body
