"""A cutover and engines that get no requests: back when they answer a token, refused when none does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
from core_stack import MODEL, spec

from orchestrator.clients.gateway import Circuit, Replica
from orchestrator.errors import GateRefused, MigrateError
from orchestrator.steps import circuits


class Engines:
    """vLLM behind the control door: those in `dead` do not answer."""

    dead: frozenset[str] = frozenset()
    asked: ClassVar[list[str]] = []

    def __init__(self, url, *, headers):
        self.name = headers["X-Migrate-Replica"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def chat(self, body):
        Engines.asked.append(self.name)
        assert (body["model"], body["max_tokens"]) == (MODEL, 1)
        if self.name in Engines.dead:
            raise MigrateError(f"{self.name} is silent")


def context(monkeypatch, dead=(), *, replicas=1, out=("llama",)):
    monkeypatch.setattr(circuits, "OpenAI", Engines)
    monkeypatch.setattr(Engines, "dead", frozenset(dead))
    monkeypatch.setattr(Engines, "asked", [])
    names = ["llama", *(f"llama-{at}" for at in range(2, replicas + 1))]
    of = spec(engines={"llama": {"repo": "org/llama", "replicas": replicas}})
    known = {name: 90.0 if name in out else 0.0 for name in names}
    status = SimpleNamespace(
        replicas={"llama": {n: Replica(out=left, by="guard") for n, left in known.items()}} if replicas > 1 else {},
        circuits={} if replicas > 1 else {n: Circuit(out=left, by="guard") for n, left in known.items()},
    )
    back = []
    gateway = SimpleNamespace(
        status=lambda: status, let_back=back.append, auth_headers={}, side_url=lambda side: f"http://door/{side}"
    )
    return SimpleNamespace(spec=of, gateway=gateway, say=lambda *_: None), back


def test_one_that_answers_comes_back_first(monkeypatch):
    here, back = context(monkeypatch)
    circuits.let_back(here, [MODEL])
    assert (Engines.asked, back) == (["llama"], ["llama"])


def test_one_that_gets_requests_is_not_asked(monkeypatch):
    here, back = context(monkeypatch, out=())
    circuits.let_back(here, [MODEL])
    assert (Engines.asked, back) == ([], [])


def test_one_that_does_not_answer_refuses_the_step(monkeypatch):
    here, back = context(monkeypatch, dead=("llama",))
    with pytest.raises(GateRefused, match="llama is silent"):
        circuits.let_back(here, [MODEL])
    assert back == []


def test_of_several_one_that_answers_is_enough(monkeypatch):
    here, back = context(monkeypatch, dead=("llama",), replicas=2, out=("llama", "llama-2"))
    circuits.let_back(here, [MODEL])
    assert back == ["llama-2"]


def test_a_silent_one_beside_one_that_gets_requests_stops_nothing(monkeypatch):
    here, back = context(monkeypatch, dead=("llama",), replicas=2, out=("llama",))
    circuits.let_back(here, [MODEL])
    assert (Engines.asked, back) == (["llama"], [])
