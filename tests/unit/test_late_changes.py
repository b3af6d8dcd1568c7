"""migrate.yaml changes after the take-over: what follows quietly, what is taken away, what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.clients.docker import ContainerFacts
from orchestrator.errors import WrongState
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.state import Event
from orchestrator.steps.engines import StartEngine
from orchestrator.steps.reload import ReloadServices
from orchestrator.steps.services import StartService
from orchestrator.steps.unused import RemoveUnused

MODEL = "llama3.1:8b"
SPEC = """
name: late
accelerator: cpu
ollama: {container: ollama}
engines: {one: {repo: org/repo}}
routes: {"llama3.1:8b": {engine: one}}
"""
COMPOSE = "services: {ollama: {image: a}, vllm-one: {image: b}}\n"


class Docker:
    """Containers by service, and what was done to them."""

    def __init__(self, *services):
        self.there = [self.container(service) for service in services]
        self.done = []

    @staticmethod
    def container(service):
        labels = {"com.docker.compose.project": "migrate-late", "com.docker.compose.service": service}
        return ContainerFacts(id=service, name=service, image="i", image_id="i", running=True, status="running",
                              health="healthy", labels=labels)

    def containers(self, *, service="", **_):
        return [one for one in self.there if not service or one.service == service]

    def stop(self, container):
        self.done.append(("stop", container))

    def remove(self, container):
        self.done.append(("remove", container))
        self.there = [one for one in self.there if one.id != container]

    def logs(self, *_, **__):
        return []

    def kill(self, container, signal):
        self.done.append((signal, container))


class Compose:
    def __init__(self, docker):
        self.docker = docker

    def up(self, services, **_):
        self.docker.done += [("up", service) for service in services]


@pytest.fixture
def stack(tmp_path):
    def make(*services):
        docker = Docker(*services)
        journal = Journal(tmp_path / ".state")
        journal.known({MODEL: True}, ("one",))
        (tmp_path / "compose.yaml").write_text(COMPOSE)
        return SimpleNamespace(
            spec=parse_spec(SPEC), dir=tmp_path, docker=docker, compose=Compose(docker), journal=journal,
            project="migrate-late", stop=SimpleNamespace(check=lambda: None, wait=lambda _: None),
            say=lambda *_, **__: None,
        )

    return make


def test_an_engine_that_is_not_named_any_more_is_removed_and_nothing_else(stack):
    context = stack("ollama", "gateway", "vllm-one", "vllm-gone", "of-the-user")
    step = RemoveUnused(context)
    assert not step.already_done()
    step.do()
    assert context.docker.done == [("stop", "vllm-gone"), ("remove", "vllm-gone")]
    assert step.already_done()


def test_services_are_told_of_changed_files_once(stack):
    context = stack("gateway", "adapter")
    for service in ("gateway", "adapter"):
        (context.dir / service).mkdir()
        (context.dir / service / "config.json").write_text("{}")
    ReloadServices(context).do()
    context.docker.done.clear()
    assert ReloadServices(context).already_done()
    (context.dir / "adapter" / "config.json").write_text('{"routes": {}}')
    step = ReloadServices(context)
    assert not step.already_done()
    step.do()
    assert context.docker.done == [("HUP", "adapter")]


def test_ollama_is_not_created_anew_under_live_traffic(stack):
    context = stack("ollama")
    StartService(context, "ollama").do()
    assert StartService(context, "ollama").already_done()
    context.journal.move("stack", "late", Event.TOOK_OVER)
    (context.dir / "compose.yaml").write_text(COMPOSE.replace("image: b", "image: c"))
    assert StartService(context, "ollama").already_done(), "another service's part does not matter"
    (context.dir / "compose.yaml").write_text(COMPOSE.replace("image: a", "image: c"))
    context.docker.done.clear()
    assert not StartService(context, "ollama").already_done()
    with pytest.raises(WrongState, match="live traffic"):
        StartService(context, "ollama").do()
    assert context.docker.done == []


def test_an_engine_with_traffic_is_not_created_anew(stack):
    context = stack("vllm-one")
    StartEngine(context, "one").do()
    for event in (Event.HEALTH_PASSED, Event.PARITY_PASSED, Event.LOAD_PASSED, Event.SHIFTED):
        context.journal.move("route", MODEL, event)
    assert StartEngine(context, "one").already_done()
    context.spec = parse_spec(SPEC.replace("org/repo", "org/other"))
    context.docker.done.clear()
    with pytest.raises(WrongState, match="carries traffic"):
        StartEngine(context, "one").do()
    assert context.docker.done == []
