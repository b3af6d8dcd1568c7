"""A stack that is taken down waits for running answers, and says for which."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.clients.gateway import Live
from orchestrator.errors import MigrateError
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.steps.remove import RemoveStack
from orchestrator.stop import Stop

SPEC = """
name: going
accelerator: cpu
takeover: {drain: DRAIN}
engines: {one: {repo: org/repo}}
routes: {"llama3.1:8b": {engine: one}}
"""


def running(ollama: int, vllm: int, of_route: tuple[int, int] = (0, 0)) -> Live:
    return Live(ollama=ollama, vllm=vllm, by_route={"llama3.1:8b": {"ollama": of_route[0], "vllm": of_route[1]}})


def remove(tmp_path, states: list[Live | None], drain: str = "20s") -> tuple[list[str], list[str]]:
    """Return what was said, and what was done after how many looks."""
    said, done, looks = [], [], iter(states)

    def status():
        live = next(looks)
        done.append("look")
        if live is None:
            raise MigrateError("away")
        return SimpleNamespace(live=live)

    journal = Journal(tmp_path / ".state")
    journal.known({"llama3.1:8b": True}, ("one",))
    context = SimpleNamespace(
        spec=parse_spec(SPEC.replace("DRAIN", drain)), journal=journal, project="migrate-going", dir=tmp_path,
        stop=Stop(lambda _: None), say=lambda _, text, *__: said.append(text), gateway=SimpleNamespace(status=status),
        docker=SimpleNamespace(volumes=lambda _: [], volume_remove=lambda _: None),
        compose=SimpleNamespace(down=lambda **_: done.append("down")),
    )  # fmt: skip
    RemoveStack(context, volumes=False).do()
    return said, done


def test_it_says_what_it_waits_for(tmp_path) -> None:
    states = [running(2, 1, (1, 1)), running(0, 1, (0, 1)), running(0, 0)]
    said, done = remove(tmp_path, states)
    assert done == ["look", "look", "look", "down"]
    assert len(said) == 2
    assert "1 of llama3.1:8b on ollama, 1 of llama3.1:8b on vllm, 1 of other models" in said[0]
    assert "at most 20 s" in said[0]


@pytest.mark.parametrize("states", [[running(0, 0)], [None]], ids=["quiet", "gateway away"])
def test_nothing_to_wait_for(tmp_path, states) -> None:
    said, done = remove(tmp_path, states)
    assert not said
    assert done == ["look", "down"]


def test_it_waits_no_longer_than_it_may(tmp_path) -> None:
    said, done = remove(tmp_path, [running(0, 1)] * 100, "0s")
    assert done == ["look", "down"]
    assert "1 of other models" in said[0]
