"""Every recording whose request a stand-in claims to support is answered as the real server did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import compare
import pytest
import recorded
import servers
import unsupported
from recorded import Case

TINY = ("./tiny", "--served-model-name", "llama3.1:8b", "tiny/llama", "--max-model-len", "1024")
# How the recorded vLLM was started can only be told from the file's name.
COMMANDS = {
    "auth": (*TINY, "--api-key", "sekret1", "sekret2"),
    "pool": ("./tiny", "--served-model-name", "emb:latest", "--runner", "pooling", "--max-model-len", "1024"),
    "tools": (*TINY, "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
}
CASES = recorded.load()
CLAIMED = [c for c in CASES if unsupported.reason(c) is None]
CORE_METRICS = {
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:request_success_total",
    "vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:time_to_first_token_seconds",
    "vllm:e2e_request_latency_seconds", "vllm:kv_cache_usage_perc", "vllm:inter_token_latency_seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], servers.Running]]:
    running: dict[str, servers.Running] = {}
    patch = pytest.MonkeyPatch()

    def of(case: Case) -> servers.Running:
        kind = case.name.split("_")[0] if case.server == "vllm" else ""
        kind = kind if kind in COMMANDS else ""
        key = f"{case.server} {kind}"
        # The recorded models have random weights: the one ends late, the other only at the limit.
        patch.setenv("STANDIN_TEXT_TOKENS", "300" if case.server == "ollama" else "2000")
        if key not in running and case.server == "vllm":
            running[key] = servers.vllm(*COMMANDS.get(kind, TINY))
        elif key not in running:
            models = Path(servers.HERE / "models.json")
            running[key] = servers.ollama(tmp_path_factory.mktemp("models"), described=models)
        return running[key]

    yield of
    for server in running.values():
        server.stop()
    patch.undo()


def names_in(case: Case) -> list[str]:
    request = case.request
    asked = [request.get(k) for k in ("model", "name", "from", "source")]
    listed = [m["name"] for m in (case.answer or {}).get("models") or []] if case.path == "/api/ps" else []
    return [n for n in [*asked, *listed] if isinstance(n, str)]


def prepare(server: servers.Running, case: Case) -> None:
    """Bring the volume and the memory into the state that the recording had."""
    if case.status in {200, 501} and case.path not in {"/api/create", "/api/pull", "/api/push"}:
        for name in names_in(case):
            if server.post("/api/show", {"model": name})[0] == 404:
                server.post("/api/copy", {"source": "llama3.1:8b", "destination": name})
    if case.path == "/api/ps" and case.status == 200:
        for model in json.loads(server.ask("GET", "/api/ps")[2])["models"]:
            server.post(_loader(model["name"]), {"model": model["name"], "input": "x", "keep_alive": 0})
        for name in names_in(case):
            server.post(_loader(name), {"model": name, "input": "x"})


def _loader(name: str) -> str:
    return "/api/embed" if "embed" in name else "/api/generate"


def ids(case: Case) -> str:
    return f"{case.server}/{case.name}"


@pytest.mark.parametrize("case", CLAIMED, ids=ids)
def test_answer_is_as_recorded(case: Case, start: Callable[[Case], servers.Running]) -> None:
    server = start(case)
    if case.server == "ollama":
        prepare(server, case)
    status, content_type, body = server.ask(case.method, case.path, case.sent, case.headers)
    assert (status, content_type) == (case.status, case.content_type), body[:500]
    if case.path == "/metrics" and case.status == 200:
        real, ours = compare.metric_names(case.body), compare.metric_names(body)
        assert ours <= real
        assert ours >= CORE_METRICS
        return
    if case.method == "HEAD":
        assert not body
        return
    expected: Any = compare.skeleton(case, case.body, case.content_type)
    if case.server == "vllm":  # this recorder kept the parsed JSON, not whether a newline followed it
        expected = [("json" if k == "newline" else k, v) for k, v in expected]
    assert compare.skeleton(case, body, content_type) == expected


def test_the_folder_holds_cases() -> None:
    assert CLAIMED, f"no recordings below {recorded.folder()}"


@pytest.mark.parametrize("case", [c for c in CASES if c not in CLAIMED], ids=ids)
def test_what_is_not_claimed_has_a_reason(case: Case) -> None:
    assert len(unsupported.reason(case) or "") > 10
