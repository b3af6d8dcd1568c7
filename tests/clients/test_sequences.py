"""Clients as the requests they send (sequences/*.yaml), against both sides: they get what they need, and the same.

`CLIENT_SEQUENCES=DIR` plays those of another folder.
"""

from __future__ import annotations

from typing import Any

import clients_stack
import pytest
from clients_sequences import Played, Sequence, load, play
from clients_stack import CHAT, EMBED, SIDES, THINKER
from compared import differences, rows

pytestmark = pytest.mark.docker
SEQUENCES = load()
NAMES = {"chat": CHAT, "thinker": THINKER, "embed": EMBED}
by_name = pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence.name)


@pytest.fixture(scope="module")
def played(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Played]]:
    """What every sequence saw, by side and name."""
    return {
        side: {one.name: play(one, stack.url, NAMES, ollama=side != "absent") for one in SEQUENCES}
        for side, stack in clients_stack.turns(tmp_path_factory.mktemp("stacks"), servers)
    }


@by_name
@pytest.mark.parametrize("side", [*SIDES, "absent"])
def test_a_client_gets_what_it_needs(played: dict[str, dict[str, Played]], sequence: Sequence, side: str) -> None:
    assert not played[side][sequence.name].wrong


@by_name
@pytest.mark.parametrize("side", SIDES[1:])
def test_the_answers_are_alike(played: dict[str, dict[str, Played]], sequence: Sequence, side: str) -> None:
    found = differences(sequence.name, played["ollama"][sequence.name].shapes, played[side][sequence.name].shapes)
    undeclared = [str(one) for one in found if side == "failover" or not any(row.covers(one) for row in rows())]
    assert not undeclared, "\n".join(undeclared)


def test_there_are_sequences() -> None:
    assert SEQUENCES
    assert all(sequence.sources for sequence in SEQUENCES)
