"""An upstream that dies after any byte: the client gets the whole answer or is told, once, and the log knows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from gateway_bench import Bench, chat
from gateway_cuts import OTHER, Answer, Got, Raw, answers, ask, parse, told
from gateway_fakes import Loop
from gateway_harness import ROUTE

pytestmark = pytest.mark.docker


@pytest.fixture
def raws(bench: Bench, loop: Loop) -> Iterator[dict[str, Raw]]:
    """Raw upstreams in place of all: silent ones would answer as the other side."""
    fakes = {"ollama": bench.ollama, "adapter": bench.adapter, "engine": bench.engine}
    found = {name: Raw(fake.port, loop) for name, fake in fakes.items()}
    for name, fake in fakes.items():
        fake.stop()
        found[name].start()
    yield found
    for raw in found.values():
        raw.stop()


def side_of(answer: Answer, weight: int) -> str:
    if weight == 0:
        return "ollama"
    return "engine" if answer.path == "/v1/chat/completions" else "adapter"


def expect(answer: Answer, cut: int, got: Got, weight: int) -> str:
    """Check what the client got; return the outcome that the log must show."""
    if cut < answer.head:
        if weight:
            assert (got.status, got.body, got.whole) == (200, OTHER, True)
            return "complete"
        assert (got.status, got.whole) == (502, True)
        assert b"error" in got.body
        return "refused"
    assert got.status == 200
    assert OTHER not in got.body
    if cut == len(answer.raw):
        said = told(got.body, answer.kind) if answer.streamed else "complete"
        assert got.whole
        assert got.body == answer.body if answer.ends != "truncated" else got.body.startswith(answer.body)
        # One that just stops is made to say so.
        assert said == ("error" if answer.ends == "truncated" else answer.ends)
        return answer.ends
    # No client may take it for whole; one that reads a stream as it comes is told, too.
    assert not got.whole
    sent = parse(answer.raw[:cut]).body
    assert got.body.startswith(sent)
    if not answer.streamed:
        assert got.body == sent
        return "truncated"
    assert told(got.body, answer.kind) != "nothing"
    return judged(sent, answer.kind)


def judged(sent: bytes, kind: str) -> str:
    """What came of a stream that broke off: the last line may be whole or not, but an error is seen at its begin."""
    said = told(sent + b"\n\n", kind)
    last = sent[sent.rfind(b"\n") + 1 :]
    if said == "nothing" and last.startswith((b'data: {"error": {', b"event: error")):
        return "error"
    if said == "complete" and told(sent, kind) == "nothing" and last.startswith(b"data: {"):
        return "truncated"      # the last event of all, which is too long to be read to its end
    return "truncated" if said == "nothing" else said


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("weight", [0, 100])
@pytest.mark.parametrize("answer", answers(), ids=lambda answer: answer.name)
def test_an_upstream_that_dies_after_any_byte(
    bench: Bench, raws: dict[str, Raw], answer: Answer, weight: int, reset: bool
) -> None:
    bench.nginx.weights({ROUTE: weight})
    dying, other = raws[side_of(answer, weight)], raws["ollama"]
    dying.raw, dying.reset = answer.raw, reset
    more = {} if answer.path.endswith(("/chat", "/chat/completions")) else {"prompt": "x", "input": "x"}
    body = chat(stream=answer.streamed, **more)
    outcomes, seconds = [], 0
    cuts = range(0, len(answer.raw) + 1, 1 if not reset else 7)
    for cut in cuts:
        time.sleep(0.002)                    # the log tells the order to the millisecond
        got = ask(bench.nginx.ports.public, answer.path, body, X_Cut=str(cut))
        outcomes.append((cut, expect(answer, cut, got, weight)))
        seconds += cut < answer.head and weight == 100
    if weight:
        assert other.asked == seconds
    bench.nginx.record(len(outcomes))
    records = bench.nginx.records()
    assert len(records) == len(outcomes)
    logged = [(cut, record["outcome"]) for cut, record in zip(cuts, records, strict=True)]
    assert [(a, b) for a, b in zip(outcomes, logged, strict=True) if a != b] == []
    assert sum(record["failover"] for record in records) == seconds
