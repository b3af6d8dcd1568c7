"""Steps on an engine with replicas: every one is started, waited for, asked and stopped."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_engine import Engine
from test_late_changes import Docker as Containers

from orchestrator.checks import Verdict
from orchestrator.errors import MigrateError, WrongState
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.state import EngineState, Event
from orchestrator.steps import verify
from orchestrator.steps.engines import StartEngine, StopEngine
from orchestrator.steps.unused import RemoveUnused

MODEL = "llama3.1:8b"
SPEC = """
name: late
accelerator: cpu
engines: {one: {repo: org/repo, replicas: 3, start_timeout: 5s}}
routes: {"llama3.1:8b": {engine: one}}
"""
SERVICES = ["vllm-one", "vllm-one-2", "vllm-one-3"]


class Docker(Containers):
    """`waits`: how often a service is looked at before it is healthy; None: it never is."""

    def __init__(self, *services):
        super().__init__(*services)
        self.waits = {}

    def containers(self, *, service="", **_):
        return [self.seen(one) for one in super().containers(service=service)]

    def seen(self, one):
        left = self.waits.get(one.service, 0)
        if left is None or left > 0:
            self.waits[one.service] = None if left is None else left - 1
            return replace(one, health="starting")
        return one

    def logs(self, container, **_):
        return ["ValueError: unrecognized model"] if container == "broken" else []


class Compose:
    def __init__(self, docker):
        self.docker = docker

    def up(self, services, **_):
        self.docker.done.append(("up", *services))
        known = {one.service for one in self.docker.there}
        self.docker.there += [self.docker.container(one) for one in services if one not in known]

    def stop(self, *services, **_):
        self.docker.done.append(("stop", *services))
        self.docker.there = [replace(one, running=False, status="exited") if one.service in services else one
                             for one in self.docker.there]  # fmt: skip


@pytest.fixture
def context(tmp_path):
    docker, said = Docker(), []
    journal = Journal(tmp_path / ".state")
    journal.known({MODEL: True}, ("one",))
    status = SimpleNamespace(live=SimpleNamespace(by_route={}))
    return SimpleNamespace(
        spec=parse_spec(SPEC), dir=tmp_path, docker=docker, compose=Compose(docker), journal=journal, said=said,
        project="migrate-late", stop=SimpleNamespace(check=lambda: None, wait=lambda _: None),
        say=lambda subject, text, *_, **__: said.append(text), gateway=SimpleNamespace(status=lambda: status),
    )  # fmt: skip


def test_the_first_goes_ahead_and_the_others_follow_together(context):
    context.docker.waits = {"vllm-one": 3, "vllm-one-3": 3}
    assert StartEngine(context, "one").do() == {"text": "3 replicas are serving"}
    assert context.docker.done == [("up", "vllm-one"), ("up", "vllm-one-2", "vllm-one-3")]
    assert context.journal.states().engines["one"] is EngineState.READY
    assert {text.partition(":")[0] for text in context.said} == {"one", "one-3"}
    assert StartEngine(context, "one").already_done()


@pytest.mark.parametrize("down", SERVICES)
def test_one_that_is_down_is_not_done(context, down):
    StartEngine(context, "one").do()
    context.compose.stop(down)
    assert not StartEngine(context, "one").already_done()


def test_one_that_does_not_become_ready_is_named_and_all_are_stopped(context):
    context.spec = parse_spec(SPEC.replace("5s", "50ms"))
    context.docker.waits = {"vllm-one-2": None}
    step = StartEngine(context, "one")
    with pytest.raises(MigrateError, match=r"vLLM \(one-2\) was not ready after 0 s"):
        step.do()
    step.undo()
    assert context.docker.done[-1] == ("stop", *SERVICES)
    assert context.journal.states().engines["one"] is EngineState.STOPPED


def test_one_that_ends_is_named_with_its_own_log(context):
    gone = replace(Docker.container("vllm-one-3"), id="broken", running=False, status="exited", exit_code=1)
    context.docker.there = [gone]
    with pytest.raises(MigrateError, match=r"vLLM \(one-3\) did not start") as caught:
        StartEngine(context, "one").do()
    assert "unrecognized model" in caught.value.evidence


def test_they_are_not_created_anew_while_one_of_them_carries_traffic(context):
    StartEngine(context, "one").do()
    for event in (Event.HEALTH_PASSED, Event.PARITY_PASSED, Event.LOAD_PASSED, Event.SHIFTED):
        context.journal.move("route", MODEL, event)
    context.compose.stop("vllm-one", "vllm-one-2")
    context.docker.done.clear()
    context.spec = parse_spec(SPEC.replace("org/repo", "org/other"))
    with pytest.raises(WrongState, match="carries traffic"):
        StartEngine(context, "one").do()
    assert context.docker.done == []


def test_a_stop_stops_all(context):
    StartEngine(context, "one").do()
    context.compose.stop("vllm-one")
    assert not StopEngine(context, "one").already_done()
    StopEngine(context, "one").do()
    assert context.docker.done[-1] == ("stop", *SERVICES)
    assert StopEngine(context, "one").already_done()


def test_replicas_that_are_too_many_now_are_removed(context):
    StartEngine(context, "one").do()
    context.spec = parse_spec(SPEC.replace("replicas: 3", "replicas: 2"))
    context.docker.done.clear()
    RemoveUnused(context).do()
    assert context.docker.done == [("stop", "vllm-one-3"), ("remove", "vllm-one-3")]


@pytest.mark.parametrize("failing", [None, "one", "one-2", "one-3"])
def test_health_is_that_of_every_replica(context, monkeypatch, failing):
    asked = []

    def check(client, *_, target, **__):
        replica = client.headers["x-migrate-replica"]
        asked.append(replica)
        result = "fail" if replica == failing else "pass"
        return Verdict("health", target, result, f"says {replica}", {"of": replica})

    context.gateway = SimpleNamespace(auth_headers={"Authorization": "Bearer t"}, side_url=lambda side: f"http://g/{side}")
    monkeypatch.setattr(verify, "check_health", check)
    monkeypatch.setattr(verify, "OpenAI", Client)
    verdict = verify.Health(context, "one").judge()
    assert asked == ["one", "one-2", "one-3"]
    assert verdict.result == ("fail" if failing else "pass")
    assert verdict.summary == (f"replica {failing}: says {failing}" if failing else "each of 3 replicas says one")
    assert set(verdict.evidence["replicas"]) == set(asked)


class Client:
    def __init__(self, _, headers):
        self.headers = {name.lower(): value for name, value in headers.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_single_engine_is_asked_as_before(context):
    context.spec = parse_spec(SPEC.replace("replicas: 3", "replicas: 1"))
    with Engine() as engine:
        context.gateway = SimpleNamespace(auth_headers={}, side_url=lambda _: engine.url)
        verdict = verify.Health(context, "one").judge()
    assert verdict.target == "one"
    assert "replicas" not in verdict.evidence
    assert all("x-migrate-replica" not in headers for headers in engine.headers)
