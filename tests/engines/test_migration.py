"""A migration to the real vLLM while real clients talk: nothing lost, nothing changed, everything counted."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from stage import ANOTHER_MODEL, Stage

from demo.scene import MODEL, fetch_in

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.timeout(900)]
PROMPTS = ("Why is the sky blue?", "Name three rivers.", "Überraschung: ein ä, ein ß.", "x" * 300)


def finished(stage: Stage) -> int:
    """What vLLM itself counts as finished requests."""
    engine = stage.service("vllm-llama3-1-8b")
    assert engine is not None
    text = fetch_in(stage.scene.docker, engine.name, "http://127.0.0.1:8000/metrics")
    return round(sum(map(float, re.findall(r"^vllm:request_success_total\{[^}]*\} (\S+)$", text, re.MULTILINE))))


def routed(stage: Stage) -> int:
    """What the gateway logged as vLLM's, checks and probes included."""
    count, at = 0, 0
    with stage.gateway() as gateway:
        while True:
            records, after = gateway.log(at)
            count += sum(record.side == "vllm" and record.method == "POST" for record in records)
            if after == at:
                return count
            at = after


def test_a_whole_migration_to_the_real_vllm(stage: Stage) -> None:
    with stage.people(users=3, tokens=12):
        stage.plan()
        stage.migrate("up", "--yes", *ANOTHER_MODEL)
        stage.migrate("cutover", "--yes")
        assert stage.weight() == 100
        stage.until("requests on vLLM", lambda: stage.door().counts[MODEL]["vllm"].get("complete", 0) > 40)
        stage.migrate("rollback")
        assert stage.weight() == 0
    assert stage.status()["routes"][0]["state"] == "rolled back"
    stage.until("vLLM is idle", lambda: stage.door().live.vllm == 0)
    assert finished(stage) == routed(stage)


def test_greedy_answers_through_the_gateway_are_vllms_own(stage: Stage) -> None:
    engine = stage.service("vllm-llama3-1-8b")
    assert engine is not None
    with stage.gateway() as gateway:
        url, headers = gateway.side_url("vllm"), gateway.auth_headers
        for prompt in PROMPTS:
            body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 16}
            through = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)
            native = {"model": MODEL, "messages": body["messages"], "stream": False,
                      "options": {"temperature": 0, "num_predict": 16, "top_k": 1}}
            dialect = httpx.post(f"{url}/api/chat", json=native, headers=headers, timeout=120, trust_env=False)
            said = fetch_in(stage.scene.docker, engine.name, "http://127.0.0.1:8000/v1/chat/completions", body)
            direct = json.loads(said)["choices"][0]["message"]["content"]
            assert through.json()["choices"][0]["message"]["content"] == direct
            assert dialect.json()["message"]["content"] == direct


def test_the_way_back_leaves_the_original_as_it_was(stage: Stage) -> None:
    stage.migrate("down", "--volumes", "--confirm", "real", "--yes")
    original = stage.scene.docker.find("real-ollama")
    assert original is not None
    assert (original.running, original.restart) == (True, "unless-stopped")
    assert httpx.get(f"{stage.scene.url}/api/version", trust_env=False).status_code == 200
    assert stage.scene.docker.containers(project="migrate-real") == []
    assert stage.scene.docker.volumes("migrate-real") == []
