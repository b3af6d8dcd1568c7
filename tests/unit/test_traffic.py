"""Weights against a gateway that exists only here, with a real journal."""

import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
from core_stack import MODEL, Ears, open_journal, prove, spec

from orchestrator.clients.gateway import Conflict, GatewayStatus, LogRecord
from orchestrator.errors import ExitCode, GateRefused, Inconclusive, MigrateError, RolledBack, WrongState
from orchestrator.plan import Plan, Step, plan_cutover
from orchestrator.report.recompute import recompute
from orchestrator.runner import run_plan
from orchestrator.state import Event, RouteState
from orchestrator.steps import Context, circuits, traffic
from orchestrator.steps.lease import Lease, approved, standing
from orchestrator.steps.registry import build
from orchestrator.steps.traffic import Shift, Unshift
from orchestrator.stop import Interrupted, Stop

OTHER = "b:1"
DOOR = {"Authorization": "Bearer x"}


def record(side="vllm", outcome="complete", **more):
    base = {
        "ts": 1.0, "id": "x", "route": MODEL, "model": MODEL, "side": side, "engine": None, "via": "ollama",
        "method": "POST", "uri": "/v1/chat/completions", "status": 200, "outcome": outcome, "ttft_ms": 20.0,
        "total_ms": 100.0, "bytes": 5, "weight": 10.0, "failover": False, "forced": False, "version": 1, "upstream": None,
    }  # fmt: skip
    return LogRecord.model_validate({**base, **more})


class FakeGateway:
    """Weights with compare-and-set, a lease, and a log that `traffic` fills at each look."""

    def __init__(self):
        self.auth_headers = DOOR
        self.weights, self.version, self.dead = {MODEL: 0.0, OTHER: 0.0}, 1, False
        self.calls, self.leases, self.released, self.records = [], [], 0, []
        self.traffic = lambda: [record() for _ in range(30)]
        self.at_look = lambda: None
        self.live, self.circuits = {}, {}

    def _alive(self):
        if self.dead:
            raise MigrateError("the gateway's control door does not answer")

    def status(self):
        self._alive()
        live = {"ollama": 0, "vllm": 0, "by_route": self.live}
        return GatewayStatus(
            stack="demo", role="final", version=self.version, weights=self.weights, hold={"on": False}, live=live,
            circuits=self.circuits,
        )  # fmt: skip

    def let_back(self, replica):
        self.calls.append(("back", replica))
        del self.circuits[replica]

    def set_weights(self, weights, version, by):
        self._alive()
        rises = any(weight > self.weights[model] for model, weight in weights.items())
        if version != self.version and (version is not None or rises):
            raise Conflict(self.version)
        self.version += 1
        self.weights = {**self.weights, **weights}
        self.calls.append((dict(weights), by))
        return self.version

    def log_end(self):
        return len(self.records)

    def log(self, start):
        self._alive()
        self.at_look()
        self.records += self.traffic()
        return self.records[start:], len(self.records)

    def lease(self, owner, seconds, fallback):
        self.leases.append(dict(fallback))

    def release(self, owner):
        self.released += 1

    def side_url(self, side):
        return f"http://gateway/side/{side}"


class FakeOllama:
    answers = True

    def __init__(self, url, headers):
        assert (url, headers) == ("http://gateway/side/ollama", DOOR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def chat(self, body):
        if not FakeOllama.answers:
            raise MigrateError("refused", evidence="connection refused")


class FakeVllm(FakeOllama):
    """The replica that it is asked for gives its token."""

    def __init__(self, url, headers):
        assert (url, headers) == ("http://gateway/side/vllm", {**DOOR, "X-Migrate-Replica": "llama"})


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return make_scene(tmp_path, monkeypatch)


def make_scene(tmp_path, monkeypatch, **cutover):
    monkeypatch.setattr(traffic, "OpenAI", FakeOllama)
    monkeypatch.setattr(circuits, "OpenAI", FakeVllm)
    monkeypatch.setattr(traffic, "LOOK_S", 0.0)
    monkeypatch.setattr(FakeOllama, "answers", True)
    of = spec(
        routes={MODEL: {"engine": "llama"}, OTHER: {"engine": "llama"}},
        cutover={"bake": 0, "patience": 0, "min_requests": 20, **cutover},
    )
    ears = Ears()
    journal = open_journal(tmp_path, of)
    prove(journal, MODEL, OTHER)
    context = Context(of, tmp_path, None, None, FakeGateway(), journal, ears, Stop(ears))
    return SimpleNamespace(context=context, gateway=context.gateway, journal=journal, ears=ears, stop=context.stop)


def run(scene, *weights, routes=(MODEL,)):
    """As the command does it: through the runner, which undoes what fails."""
    steps = tuple(Step("shift", f"{w:g} %", "why", data={"routes": list(routes), "weight": w}) for w in weights)
    plan = Plan("cutover", "demo", steps)
    run_plan(plan, lambda step: build(step, scene.context), scene.journal, scene.ears, scene.stop, lambda _: None)


def state(scene, model=MODEL):
    return scene.journal.states().routes[model]


def test_step_by_step_to_100(scene):
    run(scene, 10.0, 50.0)
    assert approved(scene.context) == {MODEL: 50.0, OTHER: 0.0}
    assert state(scene) is RouteState.SHIFTING
    run(scene, 100.0)
    assert [weights for weights, _ in scene.gateway.calls] == [{MODEL: 10.0}, {MODEL: 50.0}, {MODEL: 100.0}]
    assert state(scene) is RouteState.CUT_OVER
    assert state(scene, OTHER) is RouteState.PROVEN
    assert approved(scene.context)[MODEL] == 100.0
    written = [one.data for one in scene.journal.entries("weights")]
    assert [(one["weights"], one["version"]) for one in written] == [
        ({MODEL: 10.0}, 2), ({MODEL: 50.0}, 3), ({MODEL: 100.0}, 4),
    ]  # fmt: skip
    verdicts = scene.journal.entries("verdict")
    assert [(one.text, one.data["weight"], one.data["vllm"]["requests"]) for one in verdicts] == [
        ("pass", 10.0, 30), ("pass", 50.0, 30), ("pass", 100.0, 30),
    ]  # fmt: skip


def test_each_judged_step_keeps_what_it_was_judged_on(scene, tmp_path):
    scene.gateway.traffic = lambda: [record(uri="/v1/chat/completions?q=secret") for _ in range(30)]
    run(scene, 10.0)
    scene.gateway.traffic = lambda: [record(outcome="error") for _ in range(30)]
    with pytest.raises(RolledBack):
        run(scene, 50.0)
    verdicts = scene.journal.entries("verdict")
    assert [one.text for one in verdicts] == ["pass", "fail"]
    assert len({one.data["raw"]["file"] for one in verdicts}) == 2
    for one in verdicts:
        text = (tmp_path / "report" / one.data["raw"]["file"]).read_text(encoding="utf-8")
        again = recompute("shift", [json.loads(line) for line in text.splitlines()])
        assert again.result == one.text
        assert json.loads(json.dumps(again.evidence)) == {key: one.data[key] for key in again.evidence}
        assert "secret" not in text


def test_a_full_disk_does_not_hide_a_verdict(scene, monkeypatch):
    def full(*_):
        raise MigrateError("no space left")

    monkeypatch.setattr(traffic, "keep_shift", full)
    scene.gateway.traffic = lambda: [record(outcome="error") for _ in range(30)]
    with pytest.raises(RolledBack):
        run(scene, 10.0)
    assert scene.journal.last("verdict", f"shift {MODEL}").data["raw"] is None


def test_only_requests_since_the_change_and_of_these_routes_are_judged(scene):
    scene.gateway.records = [record(outcome="error") for _ in range(50)]
    scene.gateway.traffic = lambda: [
        *(record() for _ in range(20)),
        *(record(outcome="error", route=OTHER) for _ in range(20)),
        *(record(outcome="error", route=None) for _ in range(20)),
        *(record(outcome="error", forced=True) for _ in range(20)),
    ]
    run(scene, 10.0)
    assert scene.journal.last("verdict", f"shift {MODEL}").data["vllm"]["requests"] == 20


def test_a_broken_threshold_takes_everything_back_at_once(scene):
    run(scene, 10.0)
    scene.gateway.traffic = lambda: [record(outcome="error") for _ in range(10)]
    with pytest.raises(RolledBack) as caught:
        run(scene, 50.0)
    assert caught.value.exit_code == ExitCode.ROLLED_BACK
    assert "10 of 10 vLLM requests were bad" in caught.value.message
    assert scene.gateway.weights == {MODEL: 0.0, OTHER: 0.0}
    assert len(scene.gateway.calls) == 3, "and nothing is set afterwards"
    assert state(scene) is RouteState.ROLLED_BACK
    assert approved(scene.context)[MODEL] == 0.0
    assert scene.journal.last("verdict", f"shift {MODEL}").text == "fail"


def test_without_enough_data_it_steps_back_to_what_was_approved(scene):
    run(scene, 10.0)
    scene.gateway.traffic = lambda: [record()]
    with pytest.raises(Inconclusive) as caught:
        run(scene, 50.0)
    assert caught.value.exit_code == ExitCode.INCONCLUSIVE
    assert "19 more vLLM requests needed" in caught.value.message
    assert scene.gateway.weights[MODEL] == 10.0
    assert approved(scene.context)[MODEL] == 10.0
    assert state(scene) is RouteState.SHIFTING
    assert scene.journal.last("verdict", f"shift {MODEL}").text == "inconclusive"
    scene.gateway.traffic = lambda: [record() for _ in range(20)]
    run(scene, 50.0)
    assert scene.gateway.weights[MODEL] == 50.0


def test_it_waits_for_enough_data(tmp_path, monkeypatch):
    scene = make_scene(tmp_path, monkeypatch, patience="1h")
    scene.gateway.traffic = lambda: [record() for _ in range(7)]
    run(scene, 10.0)
    assert scene.journal.last("verdict", f"shift {MODEL}").data["vllm"]["requests"] == 21
    assert [event.data["reason"] for event in scene.ears.heard if event.kind == "wait"] == ["needed", "needed"]


def test_where_nobody_asks_anything_it_does_not_wait_for_ever(tmp_path, monkeypatch):
    scene = make_scene(tmp_path, monkeypatch, patience="1h")
    scene.gateway.traffic = list
    with pytest.raises(Inconclusive):
        run(scene, 10.0)
    assert scene.gateway.weights[MODEL] == 0.0


@pytest.mark.parametrize("records", [1, 30])
def test_a_weight_that_somebody_lowered_stays_lowered(tmp_path, monkeypatch, records):
    scene = make_scene(tmp_path, monkeypatch, patience="1h")
    run(scene, 10.0)
    scene.gateway.traffic = lambda: [record() for _ in range(records)]
    scene.gateway.at_look = lambda: scene.gateway.weights.update({MODEL: 0.0})
    calls = len(scene.gateway.calls)
    with pytest.raises(WrongState, match="lowered meanwhile"):
        run(scene, 50.0)
    assert scene.gateway.weights[MODEL] == 0.0
    assert len(scene.gateway.calls) == calls + 1, "only the step itself"
    assert approved(scene.context)[MODEL] == 10.0
    assert standing(scene.context)[MODEL] == 0.0


def test_a_rollback_beside_a_cutover_wins(tmp_path, monkeypatch):
    scene = make_scene(tmp_path, monkeypatch, patience="1h")
    beside = replace(scene.context, journal=open_journal(tmp_path, scene.context.spec))
    scene.gateway.at_look = lambda: Unshift(beside, (MODEL,)).do()
    with pytest.raises(WrongState):
        run(scene, 10.0)
    assert scene.gateway.weights[MODEL] == 0.0
    assert state(scene) is RouteState.ROLLED_BACK
    assert approved(scene.context)[MODEL] == 0.0


def test_a_change_between_looking_and_setting_is_a_conflict_and_nothing_is_forced(scene, monkeypatch):
    looked = scene.gateway.status

    def status():
        found = looked()
        scene.gateway.version += 1
        return found

    monkeypatch.setattr(scene.gateway, "status", status)
    with pytest.raises(WrongState, match="changed by somebody else"):
        run(scene, 10.0)
    assert scene.gateway.weights[MODEL] == 0.0
    assert state(scene) is RouteState.PROVEN


@pytest.mark.parametrize("asked", ["confirm", "way back"])
def test_a_rollback_while_a_step_is_asked_about_or_tried_wins(scene, tmp_path, monkeypatch, asked):
    beside = replace(scene.context, journal=open_journal(tmp_path, scene.context.spec))
    run(scene, 10.0)
    step = Shift(scene.context, (MODEL,), 50.0)
    if asked == "confirm":
        Unshift(beside, (MODEL,)).do()
    else:
        monkeypatch.setattr(FakeOllama, "chat", lambda *_: Unshift(beside, (MODEL,)).do())
    with pytest.raises(WrongState, match="changed by somebody else"):
        step.do()
    assert scene.gateway.weights[MODEL] == 0.0
    assert state(scene) is RouteState.ROLLED_BACK


def test_a_rollback_between_two_steps_of_a_run_wins(scene, tmp_path):
    beside = replace(scene.context, journal=open_journal(tmp_path, scene.context.spec))
    scene.journal.begin("cutover")
    run(scene, 10.0)
    Unshift(beside, (MODEL,)).do()
    with pytest.raises(WrongState, match="changed by somebody else"):
        run(scene, 50.0)
    assert scene.gateway.weights[MODEL] == 0.0
    scene.journal.end("stopped", 4)
    scene.journal.begin("cutover")
    run(scene, 10.0)
    assert scene.gateway.weights[MODEL] == 10.0, "a new run is a new decision"


def test_without_a_way_back_nothing_is_shifted(scene, monkeypatch):
    monkeypatch.setattr(FakeOllama, "answers", False)
    with pytest.raises(GateRefused, match="way back") as caught:
        run(scene, 10.0)
    assert caught.value.evidence == "connection refused"
    assert scene.gateway.weights[MODEL] == 0.0
    assert state(scene) is RouteState.PROVEN


def test_without_a_way_back_what_the_guard_lowered_is_left_alone(scene, monkeypatch):
    run(scene, 10.0)
    scene.gateway.weights[MODEL] = 0.0
    monkeypatch.setattr(FakeOllama, "answers", False)
    with pytest.raises(GateRefused):
        run(scene, 50.0)
    assert scene.gateway.weights[MODEL] == 0.0


def test_an_engine_that_was_taken_out_comes_back_before_the_weight_rises(scene):
    scene.gateway.circuits = {"llama": {"out": 90.0, "by": "guard"}}
    run(scene, 10.0)
    assert scene.gateway.calls[:2] == [("back", "llama"), ({MODEL: 10.0}, "cutover")]


def test_interrupted_it_steps_back(scene):
    run(scene, 10.0)
    scene.gateway.at_look = lambda: scene.stop._on(signal.SIGINT, None)
    scene.gateway.traffic = lambda: [record()]
    with pytest.raises((Interrupted, Inconclusive)):
        run(scene, 50.0)
    assert scene.gateway.weights[MODEL] == 10.0
    assert approved(scene.context)[MODEL] == 10.0


@pytest.mark.parametrize("kind, subject", [
    ("state", f"route/{MODEL}"), ("weights", "demo"), ("verdict", f"shift {MODEL}"), ("approved", MODEL),
])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("weight", [10.0, 100.0])
def test_killed_around_any_write_the_same_command_ends_in_the_same_state(
    scene, tmp_path, monkeypatch, kind, subject, before, weight
):
    """A kill -9 just before or after a write: nothing later of the process happens, not even an undo."""
    class Killed(BaseException):
        pass

    write = scene.journal.append

    def append(a_kind, a_subject, *rest):
        mine = (a_kind, a_subject) == (kind, subject)
        if mine and before:
            raise Killed
        write(a_kind, a_subject, *rest)
        if mine:
            raise Killed

    monkeypatch.setattr(scene.journal, "append", append)
    with pytest.raises(Killed):
        Shift(scene.context, (MODEL,), weight).do()
    if scene.journal._db.in_transaction:        # what SQLite does with the connection of a killed process
        scene.journal._db.rollback()
    again = replace(scene.context, journal=open_journal(tmp_path, scene.context.spec))
    fallen_back = min(scene.gateway.weights[MODEL], approved(again)[MODEL])
    for now in {scene.gateway.weights[MODEL], fallen_back}:      # the guard may have stepped back meanwhile
        scene.gateway.weights[MODEL] = now
        step = Shift(again, (MODEL,), weight)
        if not step.already_done():
            step.do()
        assert scene.gateway.weights[MODEL] == weight
        assert approved(again)[MODEL] == weight
        expected = RouteState.CUT_OVER if weight == 100 else RouteState.SHIFTING
        assert again.journal.states().routes[MODEL] is expected


@pytest.mark.parametrize("kind", ["weights", "approved", "state"])
@pytest.mark.parametrize("before", [True, False])
def test_a_rollback_killed_around_any_write_is_finished_by_the_next(scene, tmp_path, monkeypatch, kind, before):
    class Killed(BaseException):
        pass

    run(scene, 100.0)
    write = scene.journal.append

    def append(a_kind, *rest):
        if a_kind == kind and before:
            raise Killed
        write(a_kind, *rest)
        if a_kind == kind:
            raise Killed

    monkeypatch.setattr(scene.journal, "append", append)
    with pytest.raises(Killed):
        Unshift(scene.context, (MODEL,)).do()
    if scene.journal._db.in_transaction:
        scene.journal._db.rollback()
    again = replace(scene.context, journal=open_journal(tmp_path, scene.context.spec))
    assert scene.gateway.weights[MODEL] == 0.0, "the weight goes first"
    step = Unshift(again, (MODEL,))
    if not step.already_done():
        step.do()
    assert again.journal.states().routes[MODEL] is RouteState.ROLLED_BACK
    assert standing(again)[MODEL] == 0.0
    plan = plan_cutover(again.spec, again.journal.states(), standing(again), (MODEL,), 100)
    assert [step.data["weight"] for step in plan.steps] == [10, 50, 100]


def test_what_the_guard_lowered_after_the_cutover_can_be_shifted_again(scene):
    run(scene, 100.0)
    scene.gateway.weights[MODEL] = 0.0
    run(scene, 10.0, 100.0)
    assert scene.gateway.weights[MODEL] == 100.0
    assert state(scene) is RouteState.CUT_OVER


def test_a_route_that_stands_higher_is_not_taken_down(scene):
    run(scene, 10.0, 50.0)
    run(scene, 10.0, routes=(MODEL, OTHER))
    assert scene.gateway.weights == {MODEL: 50.0, OTHER: 10.0}
    assert Shift(scene.context, (MODEL,), 50.0).already_done()
    assert not Shift(scene.context, (MODEL,), 50.1).already_done()


def test_at_100_the_control_is_what_was_measured_before(scene):
    fast = [record("ollama", total_ms=100.0) for _ in range(30)]
    scene.gateway.traffic = lambda: [*(record() for _ in range(30)), *fast]
    run(scene, 50.0)
    scene.gateway.traffic = lambda: [record(total_ms=1000.0) for _ in range(30)]
    with pytest.raises(RolledBack, match="total time"):
        run(scene, 100.0)


# -- rollback ----------------------------------------------------------------------------------------------


def test_a_rollback_lowers_first_and_counts_what_still_runs(scene):
    run(scene, 100.0)
    scene.gateway.live = {MODEL: {"vllm": 3, "ollama": 1}}
    step = Unshift(scene.context, (MODEL,))
    assert not step.already_done()
    assert "3 running answers" in step.do()["text"]
    assert scene.gateway.weights[MODEL] == 0.0
    assert Unshift(scene.context, (MODEL,)).already_done()


def test_a_rollback_of_what_the_guard_lowered_still_writes_it_down(scene):
    run(scene, 10.0)
    scene.gateway.weights[MODEL] = 0.0
    step = Unshift(scene.context, (MODEL,))
    assert not step.already_done()
    step.do()
    assert state(scene) is RouteState.ROLLED_BACK


def test_a_rollback_of_a_dead_gateway_fails_because_its_weights_would_come_back(scene):
    run(scene, 10.0)
    scene.gateway.dead = True
    with pytest.raises(MigrateError):
        Unshift(scene.context, (MODEL,)).already_done()
    with pytest.raises(MigrateError):
        Unshift(scene.context, (MODEL,)).do()
    assert approved(scene.context)[MODEL] == 10.0


def test_a_dead_gateway_keeps_nobody_from_giving_the_port_back(scene):
    run(scene, 10.0)
    scene.gateway.dead = True
    step = Unshift(scene.context, (MODEL,), leaving=True)
    assert not step.already_done()
    step.do()
    assert state(scene) is RouteState.ROLLED_BACK
    assert approved(scene.context)[MODEL] == 0.0
    assert "warn" in scene.ears.kinds()


# -- lease -------------------------------------------------------------------------------------------------


def leave(scene, error=None):
    lease = Lease(scene.context)
    lease.__enter__()
    lease.__exit__(type(error), error, None)


def test_the_lease_names_what_is_approved_and_is_released(scene):
    run(scene, 10.0)
    leave(scene)
    assert scene.gateway.leases[0] == {MODEL: 10.0, OTHER: 0.0}
    assert scene.gateway.released == 1


@pytest.mark.parametrize("error, released", [
    (Inconclusive("stepped back"), 1),
    (Interrupted("stepped back"), 1),
    (MigrateError("failed twice", code=ExitCode.HUMAN), 0),
    (KeyboardInterrupt(), 0),
    (ZeroDivisionError(), 0),
])
def test_who_leaves_without_stepping_back_leaves_the_lease_to_run_out(scene, error, released):
    leave(scene, error)
    assert scene.gateway.released == released


def test_standing_needs_no_gateway_where_nothing_is_approved(scene):
    scene.gateway.dead = True
    assert standing(scene.context) == {MODEL: 0.0, OTHER: 0.0}


def test_only_a_known_event_moves_a_route(scene):
    with pytest.raises(WrongState):
        scene.journal.move("route", MODEL, Event.ARRIVED)
