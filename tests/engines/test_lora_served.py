"""A LoRA adapter from the stack file to the real vLLM: it answers under its route's name, its base under its own."""

from __future__ import annotations

import json
import random
import struct
from array import array
from pathlib import Path
from typing import Any

import httpx
import pytest
from stage import ANOTHER_MODEL, Stage

from demo.scene import MODEL, fetch_in, models_folder
from orchestrator.checks.health import check_health
from orchestrator.clients.openai import OpenAI

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.timeout(900)]
BOT = "support-bot:latest"
RANK = 8
CHAT = "http://127.0.0.1:8000/v1/chat/completions"
PROMPT = [{"role": "user", "content": "Why is the sky blue?"}]


def write_adapter(folder: Path, base: str) -> None:
    """Write what PEFT would: random matrices whose product is as large as the tiny model's own weights.

    Much larger ones make it end at once, and an answer without a token counts as none in the load test.
    """
    shape = json.loads((models_folder() / "tiny-llama" / "config.json").read_text())
    hidden, head = shape["hidden_size"], shape["head_dim"]
    sides = {"q_proj": (hidden, shape["num_attention_heads"] * head), "v_proj": (hidden, shape["num_key_value_heads"] * head)}
    header: dict[str, Any] = {}
    body = bytearray()
    numbers = random.Random(7)
    for layer in range(shape["num_hidden_layers"]):
        for module, (inner, outer) in sides.items():
            for letter, size in (("A", [RANK, inner]), ("B", [outer, RANK])):
                begin = len(body)
                body += array("f", (numbers.gauss(0, 1 if letter == "A" else 0.1) for _ in range(size[0] * size[1]))).tobytes()
                name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{letter}.weight"
                header[name] = {"dtype": "F32", "shape": size, "data_offsets": [begin, len(body)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": list(sides), "bias": "none",
        "base_model_name_or_path": base, "task_type": "CAUSAL_LM",
    }))  # fmt: skip


def inside(stage: Stage, model: str) -> dict[str, Any]:
    engine = stage.service("vllm-llama3-1-8b")
    assert engine is not None
    body = {"model": model, "messages": PROMPT, "temperature": 0, "max_tokens": 16}
    found: dict[str, Any] = json.loads(fetch_in(stage.scene.docker, engine.name, CHAT, body))
    return found


def said(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def through(stage: Stage, model: str, *, native: bool) -> str:
    """Ask the vLLM side through gateway and dialect, as a client would."""
    with stage.gateway() as gateway:
        url, headers = gateway.side_url("vllm"), gateway.auth_headers
    if native:
        body = {"model": model, "messages": PROMPT, "stream": False,
                "options": {"temperature": 0, "num_predict": 16, "top_k": 1}}  # fmt: skip
        answer = httpx.post(f"{url}/api/chat", json=body, headers=headers, timeout=120, trust_env=False)
        assert (answer.status_code, answer.json()["model"]) == (200, model), answer.text
        return str(answer.json()["message"]["content"])
    body = {"model": model, "messages": PROMPT, "temperature": 0, "max_tokens": 16}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    return said(answer.json())


def test_a_stack_with_an_adapter_is_planned_started_and_proven(stage: Stage) -> None:
    copied = httpx.post(f"{stage.scene.url}/api/copy", json={"source": MODEL, "destination": BOT}, trust_env=False)
    assert copied.status_code == 200
    stage.plan()

    def add(data: dict[str, Any]) -> None:
        data["engines"]["llama3-1-8b"]["adapters"] = {"support": "./support"}
        data["routes"][BOT] = {"engine": "llama3-1-8b", "adapter": "support"}

    stage.edit(add)
    refused = stage.migrate("plan", code=2)
    assert "engines/llama3-1-8b/adapters/support" in refused.out + refused.err
    write_adapter(stage.scene.stack / "support", stage.scene.extra["engines"]["llama3-1-8b"]["repo"])
    planned = stage.migrate("plan")
    assert f"{BOT} -> /models/tiny-llama with LoRA support" in planned.out
    stage.migrate("up", "--yes", *ANOTHER_MODEL)
    assert {one["state"] for one in stage.status()["routes"]} == {"proven"}


def test_base_and_adapter_answer_differently_under_their_names(stage: Stage) -> None:
    base, adapted = inside(stage, MODEL), inside(stage, "support")
    assert (base["model"], adapted["model"]) == (MODEL, "support")
    assert said(base) != said(adapted)
    assert said(inside(stage, MODEL)) == said(base)
    # Why no other spelling may ever reach vLLM: it does not refuse it, and the base model answers.
    assert said(inside(stage, "Support")) == said(base)
    assert said(inside(stage, BOT)) == said(base)


@pytest.mark.parametrize("spelled", [BOT, "support-bot", "Support-Bot", "SUPPORT-BOT:latest", "support"])
def test_every_spelling_of_the_routes_name_reaches_the_adapter(stage: Stage, spelled: str) -> None:
    adapted = said(inside(stage, "support"))
    assert through(stage, spelled, native=True) == adapted
    assert through(stage, spelled, native=False) == adapted


def test_the_base_keeps_its_own_names(stage: Stage) -> None:
    base = said(inside(stage, MODEL))
    assert through(stage, MODEL, native=True) == base
    assert through(stage, MODEL.upper(), native=False) == base


def test_the_health_gate_sees_an_adapter_that_is_not_loaded(stage: Stage) -> None:
    with stage.gateway() as gateway:
        url, headers = gateway.side_url("vllm"), {**gateway.auth_headers, "X-Migrate-Engine": "llama3-1-8b"}
    with OpenAI(url, headers=headers) as client:
        there = {"support": "/migrate/adapters/support"}
        right = check_health(client, "/models/tiny-llama", [MODEL], adapters=there)
        wrong = check_health(client, "/models/tiny-llama", [MODEL], adapters={**there, "legal": "/x"})
        base = check_health(client, "/models/tiny-llama", [MODEL], adapters={MODEL: "/x"})
    assert (right.result, wrong.result, base.result) == ("pass", "fail", "fail")
    assert "legal" in wrong.summary
    assert "base model" in base.summary
