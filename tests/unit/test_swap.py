"""The port swap's values, files and decisions, without Docker."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.clients.docker import ContainerFacts, PortFacts
from orchestrator.errors import MigrateError, NeedsHuman, WrongState
from orchestrator.steps import swap_helper
from orchestrator.steps.swap import Counts, Swap, add_up, listened, outcome_counts
from orchestrator.steps.swap_files import SwapFiles
from orchestrator.steps.swap_helper import carry_out, counts_of_attempts, judged, start, unfinished
from orchestrator.steps.swap_plan import ComposeService, PlainContainer, SwapPlan, SwapResult, TempGateway
from orchestrator.steps.swap_probe import Prober, ProbeStats, who
from orchestrator.steps.swap_temp import bind_addresses, free_port, shared

PLAN = SwapPlan(
    stack="demo",
    listen=("127.0.0.1",),
    port=24010,
    old=PlainContainer("ollama", "ollama-before-migrate", "always"),
    new=ComposeService("migrate-demo", "/s", ("/s/compose.yaml",), "gateway", ("/s/.env",)),
    temp=TempGateway("migrate-demo-swap", "g:1", ("a",), mounts=(("v", "/v", True),), networks=(("n", ("x", "y")),)),
    sidecar_image="s:1",
)
RESULT = SwapResult(id="1", outcome="moved", mode="redirect", gap_s=0.06)


def test_a_plan_survives_its_journey_as_json() -> None:
    assert SwapPlan.loads(PLAN.dumps()) == PLAN
    assert SwapPlan.loads(replace(PLAN, old=PLAN.new, new=PLAN.old).dumps()).new == PLAN.old


@pytest.mark.parametrize(
    "listen, probed, bound",
    [
        (("127.0.0.1",), "127.0.0.1", ("127.0.0.1",)),
        (("0.0.0.0", "::"), "127.0.0.1", ("",)),
        (("192.0.2.7",), "192.0.2.7", ("192.0.2.7",)),
        (("::1",), "::1", ("::1",)),
    ],
)
def test_a_loopback_port_stays_loopback(listen: tuple[str, ...], probed: str, bound: tuple[str, ...]) -> None:
    assert replace(PLAN, listen=listen).probe_host == probed
    assert bind_addresses(listen) == bound


def facts(name: str, running: bool = True, **networks: str) -> ContainerFacts:
    return ContainerFacts(name, name, "image", "sha256:0", running, "running", addresses=networks)


def test_neighbours_move_on_the_networks_that_both_are_on() -> None:
    giver, heir = facts("a", apps="10.1.0.2", only_a="10.2.0.2"), facts("b", apps="10.1.0.3", only_b="10.3.0.3")
    assert shared(giver, 11434, heir, 8080) == [("10.1.0.2", 11434, "10.1.0.3:8080")]


def test_the_addresses_that_docker_added_are_redirected_too() -> None:
    published = (("0.0.0.0", 24010), ("::", 24010), ("127.0.0.1", 9999))
    ports = tuple(PortFacts(ip, port, 11434) for ip, port in published)
    old = replace(facts("ollama"), ports=ports)
    assert listened(replace(PLAN, listen=("0.0.0.0",)), old) == ("0.0.0.0", "::")


class Answering(http.server.BaseHTTPRequestHandler):
    identity: dict[str, Any] | None = None

    def do_GET(self) -> None:
        found = self.path == "/api/version" or self.identity is not None
        body = json.dumps(self.identity if self.path == "/_migrate/id" else {"version": "1"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    Answering.identity = None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "identity, role",
    [
        (None, "ollama"),
        ({"stack": "demo", "role": "swap", "version": 1}, "swap"),
        ({"stack": "demo", "role": "final", "version": 1}, "final"),
        ({"stack": "another", "role": "final", "version": 1}, "ollama"),
    ],
)
def test_who_answers_a_port(
    server: http.server.ThreadingHTTPServer, identity: dict[str, Any] | None, role: str
) -> None:
    Answering.identity = identity
    assert who("127.0.0.1", server.server_port, "demo") == role


def test_nobody_answers_a_closed_port_and_the_prober_counts_it() -> None:
    port = free_port()
    assert who("127.0.0.1", port, "demo") == ""
    prober = Prober("127.0.0.1", port)
    prober.start()
    while prober.stats().refused == 0:
        time.sleep(0.01)
    stats = prober.stop()
    assert (stats.answered, stats.refused > 0, stats.gap_s > 0) == (0, True, True)


def test_what_failed_is_told_with_its_exit_code() -> None:
    assert judged(RESULT) is RESULT
    with pytest.raises(MigrateError, match="stays where it was: no gateway") as undone:
        judged(replace(RESULT, outcome="undone", error="no gateway", hint="look"))
    assert (undone.value.exit_code, undone.value.hint) == (1, "look")
    with pytest.raises(NeedsHuman, match="so did the way back"):
        judged(replace(RESULT, outcome="stuck", error="x"))


class Script(Swap):
    """A swap whose parts fail as told."""

    def __init__(self, *, run: str = "", undo: str = "", handed_over: bool = False) -> None:
        self.plan, self.handed_over, self._run, self._undo = PLAN, handed_over, run, undo

    def run(self) -> None:
        if self._run:
            raise MigrateError(self._run, hint="h", evidence="e")

    def undo(self) -> None:
        if self._undo:
            raise MigrateError(self._undo)

    def tidy(self) -> None:
        self.undo()


def test_a_failure_goes_back_and_both_errors_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_helper, "TIDY_WAITS_S", (0, 0))
    said: list[str] = []
    tell = lambda step, text: said.append(text)  # noqa: E731
    assert carry_out(Script(), tell) == {"outcome": "moved"}
    assert carry_out(Script(run="broken"), tell) == {
        "outcome": "undone", "error": "broken", "hint": "h", "evidence": "e",
    }  # fmt: skip
    stuck = carry_out(Script(run="broken", undo="no way back"), tell)
    assert (stuck["outcome"], stuck["error"]) == ("stuck", "broken; going back: no way back")
    assert said == ["broken", "broken"]


def test_after_the_hand_over_nothing_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_helper, "TIDY_WAITS_S", (0, 0))
    quiet = lambda step, text: None  # noqa: E731
    assert carry_out(Script(run="rules stay", handed_over=True), quiet) == {"outcome": "moved"}
    left = carry_out(Script(run="rules stay", undo="still there", handed_over=True), quiet)
    assert (left["outcome"], left["error"]) == ("moved", "still there")
    assert "docker rm -f migrate-demo-swap" in left["hint"]


def test_what_a_killed_helper_saw_is_not_forgotten() -> None:
    def counts(**changes: object) -> dict[str, Any]:
        return {**outcome_counts(Counts(), ProbeStats(10, 0, 0.05, 0.0)), **changes}

    events = [
        {"step": "begin", "counts": counts()},
        {"step": "drain", "counts": counts(waited_streams=7, gap_s=0.3, cut=1, mode="redirect")},
        {"step": "begin", "counts": counts()},
    ]
    total = add_up([*counts_of_attempts(events), counts(waited_streams=2, cut=1)])
    assert (total["waited_streams"], total["gap_s"], total["cut"], total["probes"]) == (7, 0.3, 2, 30)
    assert total["mode"] == "redirect"


def test_an_unfinished_swap_is_continued_and_never_mixed_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached: list[Path] = []
    monkeypatch.setattr(swap_helper, "detach", lambda files, stack: detached.append(stack))
    assert unfinished(tmp_path) is None
    first = start(tmp_path, PLAN)
    assert unfinished(tmp_path) == PLAN
    assert start(tmp_path, PLAN) == first
    with pytest.raises(WrongState, match="unfinished"):
        start(tmp_path, replace(PLAN, port=24011))
    files = SwapFiles(tmp_path)
    files.write(files.result, replace(RESULT, id=first).dumps())
    assert unfinished(tmp_path) is None
    assert start(tmp_path, replace(PLAN, port=24011)) != first
    assert len(detached) == 3


def test_a_helper_at_work_is_not_started_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detached: list[Path] = []
    monkeypatch.setattr(swap_helper, "detach", lambda files, stack: detached.append(stack))
    start(tmp_path, PLAN)
    files = SwapFiles(tmp_path)
    with files.held() as ours:
        assert ours
        assert files.holder() == os.getpid()
        start(tmp_path, PLAN)
    assert files.holder() is None
    assert len(detached) == 1


def test_the_files_are_for_the_owner_only_and_a_half_written_event_is_left_for_later(tmp_path: Path) -> None:
    files = SwapFiles(tmp_path)
    files.state.mkdir()
    files.append({"step": "begin"})
    with files.events.open("a") as file:
        file.write('{"step": "dra')
    assert files.read_events() == [{"step": "begin"}]
    files.write(files.result, RESULT.dumps())
    assert files.read_result("1") == RESULT
    assert files.read_result("2") is None
    assert {path.stat().st_mode & 0o077 for path in files.state.iterdir()} == {0}
