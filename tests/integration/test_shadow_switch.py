"""`migrate shadow` on a stack that serves: on, looked at, off, and no client notices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stage import Stage

from demo.scene import MODEL

pytestmark = [pytest.mark.docker, pytest.mark.staged, pytest.mark.full]
OTHERS = ("adapter", "gateway", "guard", "ollama")


@pytest.fixture(scope="module", autouse=True)
def serving(stage: Stage) -> Iterator[None]:
    """The stack has the port, and Ollama still answers everything."""
    stage.plan()
    with stage.people():
        stage.migrate("up", "--yes")
        assert stage.weight() == 0
        yield


def ids(stage: Stage) -> dict[str, str]:
    return {name: one.id for name in OTHERS if (one := stage.service(name))}


def shown(stage: Stage, *words: str) -> dict[str, Any]:
    return json.loads(stage.migrate("shadow", *words, "--json").out)["routes"][0]


def test_it_is_switched_on_and_off_while_clients_are_served(stage: Stage) -> None:
    before = ids(stage)
    assert "off" in stage.migrate("shadow").out
    done = stage.migrate("shadow", MODEL, "--percent", "100", "--keep", "50")
    assert "100 % of what Ollama answers" in done.out
    until = time.monotonic() + 60
    while shown(stage)["compared"]["compared"] < 2:
        assert time.monotonic() < until, shown(stage)
        time.sleep(0.5)
    numbers = shown(stage)
    assert numbers["in_effect"] == numbers["percent"] == 100
    assert numbers["samples"]["sent"] >= 2
    assert numbers["records"] == [], "no words without --show"
    worded = shown(stage, "--show", "--limit", "1")["records"]
    assert len(worded) == 1
    assert MODEL in worded[0]["request"]
    assert worded[0]["ollama"]["text"]

    stage.migrate("shadow", "--off")
    off = shown(stage)
    assert (off["percent"], off["in_effect"]) == (None, None)
    assert off["compared"]["compared"] >= 2, "what was compared stays"
    assert "nothing to do" in stage.migrate("up", "--dry-run").out
    assert ids(stage) == before
    assert stage.lost() == []


def test_what_the_guard_does_is_in_the_journal(stage: Stage) -> None:
    guard = stage.service("guard")
    assert guard is not None
    said = json.loads(stage.migrate("status", "--json").out)["guard"]
    assert said[0]["event"] == "start"
    assert said[0]["at"] <= time.time()
    notes = stage.scene.stack / ".state" / "guard" / "events.jsonl"
    assert notes.parent.stat().st_uid == stage.scene.stack.stat().st_uid
    again = json.loads(stage.migrate("status", "--json").out)["guard"]
    assert again == said, "each event is taken over once"
