"""The health gate asks three questions and names the first wrong answer."""

from __future__ import annotations

import json

import httpx
import pytest

from orchestrator.checks.health import check_health, rejudge
from orchestrator.clients.openai import OpenAI

ROOT = "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16"
MODELS = {"data": [{"id": "llama3.1:8b", "root": ROOT}, {"id": "other", "root": ROOT}]}
TOKEN = {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}], "usage": {"completion_tokens": 1}}
VECTOR = {"data": [{"embedding": [0.1, 0.2]}]}


def judge(*, kind="generate", names=("llama3.1:8b",), root=ROOT, **changed):
    answers = {"health": httpx.Response(200), "models": MODELS, "chat": TOKEN, "embeddings": VECTOR, **changed}

    def answer(request):
        parts = request.url.path.split("/")
        reply = answers["chat"] if "chat" in parts else answers[parts[-1]]
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, httpx.Response) else httpx.Response(200, json=reply)

    with OpenAI("http://door.test/side/vllm", transport=httpx.MockTransport(answer)) as client:
        verdict = check_health(client, root, names, target="llama31-8b", kind=kind)
    assert rejudge(json.loads(json.dumps(verdict.evidence))) == (verdict.result, verdict.summary)
    return verdict


def test_healthy_engine_passes_with_its_evidence():
    verdict = judge(names=("llama3.1:8b", "other"))
    assert verdict.result == "pass"
    assert (verdict.check, verdict.target) == ("health", "llama31-8b")
    assert json.loads(json.dumps(verdict.to_json()))["evidence"]["models"][0]["root"] == ROOT


def test_embedding_engine_is_asked_for_an_embedding():
    verdict = judge(kind="embedding", chat=httpx.Response(404))
    assert verdict.result == "pass"
    assert verdict.evidence["answer"]["dimension"] == 2


@pytest.mark.parametrize(
    "change, step, words",
    [
        ({"health": httpx.Response(503)}, "answers", "503"),
        ({"health": httpx.ConnectError("refused")}, "answers", "refused"),
        ({"models": {"data": []}}, "serves", "nothing"),
        ({"names": ("nope",)}, "serves", "does not serve nope, but llama3.1:8b, other"),
        ({"root": "org/other"}, "serves", f"{ROOT} instead of org/other"),
        ({"chat": httpx.Response(500, json={"error": {"message": "boom"}})}, "gives_one", "boom"),
        ({"chat": {"choices": [], "usage": {}}}, "gives_one", "without generating"),
        ({"chat": httpx.ReadTimeout("late")}, "gives_one", "late"),
        ({"kind": "embedding", "embeddings": {"data": [{"embedding": []}]}}, "gives_one", "without an embedding"),
        (
            {"kind": "embedding", "embeddings": {"data": [{"embedding": [0.0, 0.0]}]}},
            "gives_one",
            "without an embedding",
        ),
    ],
)
def test_each_wrong_answer_fails_and_is_named(change, step, words):
    verdict = judge(**change)
    assert verdict.result == "fail"
    assert verdict.evidence["failed_at"] == step
    assert words in verdict.summary
