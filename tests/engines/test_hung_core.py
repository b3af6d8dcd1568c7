"""The real vLLM whose core hangs behind a living server: its requests go to Ollama while the first probe still waits."""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from plain_stack import ENGINE, MODEL, PlainStack

pytestmark = [pytest.mark.docker, pytest.mark.vllm, pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainStack]:
    one = PlainStack.real(tmp_path_factory.mktemp("hung"), "hung")
    try:
        one.up("ollama", "gateway", "adapter", f"vllm-{ENGINE}", "guard")
        one.weight(100)
        yield one
    finally:
        one.down()


def ask(stack: PlainStack, prompt: str = "x") -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 2}).encode()
    request = urllib.request.Request(f"{stack.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        assert answer.status == 200


def taken(stack: PlainStack) -> list[str]:
    return [one["cause"] for one in stack.noted() if one["event"] in ("replica", "lowered")]


def test_whole_contexts_to_read_and_a_full_queue_are_no_alarm(stack: PlainStack) -> None:
    def work() -> None:
        for _ in range(5):
            ask(stack, "".join(random.choices("abcdefghijklmnop ", k=1800)))

    threads = [threading.Thread(target=work) for _ in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken(stack) == []
    assert stack.status().weights[MODEL] == 100


def test_a_core_that_hangs_loses_its_requests_and_gets_them_back(stack: PlainStack) -> None:
    ask(stack)
    stack.core(signal.SIGSTOP)
    try:
        stack.until("the circuit is open", stack.circuits)
        assert "nothing moved for" in taken(stack)[-1]
        assert stack.status().weights[MODEL] == 100, "a weight would stay low until somebody raises it"
        before = stack.failovers()
        ask(stack)
        assert stack.failovers() == before + 1
    finally:
        stack.core(signal.SIGCONT)
    stack.until("the circuit is closed", lambda: not stack.circuits())
    assert taken(stack)[-1] == "it answers"
