"""An edit of what serves, step by step: against a gateway of a few lines, with a real journal."""

import dataclasses

import pytest
from core_stack import MODEL, open_journal
from test_traffic import OTHER, FakeOllama, make_scene, record

from orchestrator.errors import GateRefused, MigrateError, WrongState
from orchestrator.plan import Step
from orchestrator.plan.edits import evidence_digest
from orchestrator.state import Event, RouteState
from orchestrator.steps import edit
from orchestrator.steps.edit import Drain, KeepSpec, Lower, Raise, ReuseEvidence, proven
from orchestrator.steps.lease import approved, held
from orchestrator.steps.registry import build
from orchestrator.steps.traffic import Shift, Unshift
from orchestrator.workspace import Workspace

GATES = (Event.READY, Event.HEALTH_PASSED, Event.PARITY_PASSED, Event.LOAD_PASSED)


class Killed(BaseException):
    """As kill -9: nothing after it runs."""


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return at_work(tmp_path, monkeypatch)


def at_work(folder, monkeypatch):
    """One route at 100 %, the other at 10 %."""
    found = make_scene(folder, monkeypatch)
    found.gateway.traffic = lambda: [record(route=model) for model in (MODEL, OTHER) for _ in range(30)]
    for model, weight in ((MODEL, 100.0), (OTHER, 10.0)):
        Shift(found.context, (model,), weight).do()
    return found


def lower(scene):
    Lower(scene.context, (MODEL, OTHER)).do()


def prove(scene):
    for model in (MODEL, OTHER):
        for event in GATES:
            scene.journal.move("route", model, event)


def states(scene):
    return scene.journal.states().routes


def test_down_to_ollama_and_back_to_where_it_was(scene):
    assert not Lower(scene.context, (MODEL, OTHER)).already_done()
    lower(scene)
    assert scene.gateway.weights == {MODEL: 0.0, OTHER: 0.0}
    assert held(scene.journal) == {MODEL: 100.0, OTHER: 10.0}
    assert set(states(scene).values()) == {RouteState.ROLLED_BACK}
    assert Lower(scene.context, (MODEL, OTHER)).already_done()
    prove(scene)
    assert not Raise(scene.context, (MODEL, OTHER)).already_done()
    Raise(scene.context, (MODEL, OTHER)).do()
    assert scene.gateway.weights == {MODEL: 100.0, OTHER: 10.0} == approved(scene.context)
    assert states(scene) == {MODEL: RouteState.CUT_OVER, OTHER: RouteState.SHIFTING}
    assert held(scene.journal) == {}
    assert Raise(scene.context, (MODEL, OTHER)).already_done()


def test_what_ollama_cannot_answer_for_is_not_lowered(scene, monkeypatch):
    monkeypatch.setattr(FakeOllama, "answers", False)
    with pytest.raises(GateRefused, match="the way back is not there"):
        lower(scene)
    assert scene.gateway.weights[MODEL] == 100
    assert held(scene.journal) == {}


def test_a_weight_that_the_guard_lowered_is_owed_as_it_was_found(scene):
    scene.gateway.weights = {MODEL: 0.0, OTHER: 10.0}
    lower(scene)
    assert held(scene.journal) == {OTHER: 10.0}
    assert states(scene)[MODEL] is RouteState.ROLLED_BACK


def test_a_rollback_beside_it_cancels_what_is_owed(scene):
    lower(scene)
    prove(scene)
    back = Unshift(scene.context, (MODEL, OTHER))
    assert not back.already_done()
    back.do()
    assert held(scene.journal) == {}
    Raise(scene.context, (MODEL, OTHER)).do()
    assert scene.gateway.weights == {MODEL: 0.0, OTHER: 0.0}


def test_a_rollback_while_somebody_is_asked_wins(scene):
    lower(scene)
    prove(scene)
    step = Raise(scene.context, (MODEL, OTHER))
    scene.gateway.set_weights({MODEL: 0.0}, None, by="rollback")
    with pytest.raises(WrongState, match="changed by somebody else"):
        step.do()
    assert scene.gateway.weights[MODEL] == 0


def test_a_cutover_pays_the_debt(scene):
    lower(scene)
    prove(scene)
    Shift(scene.context, (MODEL,), 10.0).do()
    assert held(scene.journal) == {OTHER: 10.0}


def test_nothing_rises_that_is_not_proven(scene):
    lower(scene)
    scene.journal.move("route", MODEL, Event.READY)
    with pytest.raises(WrongState, match="only once it is proven"):
        Raise(scene.context, (MODEL, OTHER)).do()
    assert scene.gateway.weights == {MODEL: 0.0, OTHER: 0.0}
    assert held(scene.journal) == {MODEL: 100.0, OTHER: 10.0}


def calls_of(work, scene):
    """Count the writes (journal and gateway) that `work` makes, on a copy of nothing: each is a moment to die at."""
    count = 0

    def counted(kind, real):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            return real(*args, **kwargs)
        return call

    scene.journal.append = counted("append", scene.journal.append)
    scene.gateway.set_weights = counted("set", scene.gateway.set_weights)
    work()
    return count


def die_at(scene, monkeypatch, moment):
    """Let the write number `moment` (from 0) happen, and nothing after it."""
    left = moment

    def deadly(real):
        def call(*args, **kwargs):
            nonlocal left
            if left < 0:
                raise Killed
            left -= 1
            answer = real(*args, **kwargs)
            if left < 0:
                raise Killed
            return answer
        return call

    monkeypatch.setattr(scene.journal, "append", deadly(scene.journal.append))
    monkeypatch.setattr(scene.gateway, "set_weights", deadly(scene.gateway.set_weights))


def edited(scene):
    """What `up` does with the weights."""
    if not Lower(scene.context, (MODEL, OTHER)).already_done():
        lower(scene)
    for model in (MODEL, OTHER):
        if states(scene)[model] is RouteState.ROLLED_BACK:
            for event in GATES:
                scene.journal.move("route", model, event)
        while states(scene)[model] in (RouteState.DEPLOYED, RouteState.HEALTHY, RouteState.MATCHED):
            scene.journal.move("route", model, GATES[1 + list(edit._BEFORE.values()).index(states(scene)[model])])
    step = Raise(scene.context, (MODEL, OTHER))
    if not step.already_done():
        step.do()


def test_killed_after_any_write_the_same_steps_end_where_they_should(tmp_path, monkeypatch):
    counting = at_work(tmp_path / "count", monkeypatch)
    moments = calls_of(lambda: edited(counting), counting)
    assert moments > 10
    for moment in range(moments):
        scene = at_work(tmp_path / f"at-{moment}", monkeypatch)
        with monkeypatch.context() as patch:
            die_at(scene, patch, moment)
            with pytest.raises(Killed):
                edited(scene)
        left = open_journal(scene.journal.dir, scene.context.spec)
        scene.context = dataclasses.replace(scene.context, journal=left)
        scene.journal = left
        edited(scene)
        assert scene.gateway.weights == {MODEL: 100.0, OTHER: 10.0}, moment
        assert states(scene) == {MODEL: RouteState.CUT_OVER, OTHER: RouteState.SHIFTING}, moment
        assert held(left) == {}, moment


def test_drain_waits_for_the_answers_on_vllm(scene):
    scene.gateway.live = {MODEL: {"vllm": 2, "ollama": 5}, OTHER: {"ollama": 3}}
    step = Drain(scene.context, (MODEL, OTHER), 9.0, cut=True)
    assert not step.already_done()

    def less():
        scene.gateway.live[MODEL]["vllm"] -= 1
        return status()

    status = scene.gateway.status
    scene.gateway.status = less
    assert "no answer is running" in step.do()["text"]
    scene.gateway.status = status
    assert step.already_done()


def test_drain_is_bounded(scene):
    scene.gateway.live = {MODEL: {"vllm": 2}}
    assert "2 answers were still running" in Drain(scene.context, (MODEL,), 0.0, cut=True).do()["text"]
    with pytest.raises(MigrateError, match="2 answers are still running") as caught:
        Drain(scene.context, (MODEL,), 0.0, cut=False).do()
    assert caught.value.hint


def test_the_spec_is_kept_as_it_is_not_as_the_file_says(scene):
    step = KeepSpec(scene.context)
    assert not step.already_done()
    step.do()
    assert KeepSpec(scene.context).already_done()
    assert Workspace(scene.context.dir).deployed() == scene.context.spec


def test_evidence_of_before_is_used_again_only_for_the_same_engine(scene):
    lower(scene)
    scene.journal.move("route", MODEL, Event.READY)
    with pytest.raises(MigrateError, match="never proven"):
        ReuseEvidence(scene.context, MODEL).do()
    for gate in ("parity", "load"):
        digest = evidence_digest(scene.context.spec, gate, MODEL)
        scene.journal.append("verdict", f"{gate} {MODEL}", "pass", {"spec": digest})
        scene.journal.append("verdict", f"{gate} {MODEL}", "fail", {"spec": "of the edit"})
    step = ReuseEvidence(scene.context, MODEL)
    assert not step.already_done()
    step.do()
    assert states(scene)[MODEL] is RouteState.PROVEN
    assert proven(scene.context, scene.context.spec, MODEL)
    assert step.already_done()


def test_a_verdict_that_failed_proves_nothing(scene):
    for gate in ("parity", "load"):
        digest = evidence_digest(scene.context.spec, gate, MODEL)
        scene.journal.append("verdict", f"{gate} {MODEL}", "fail", {"spec": digest})
    assert not proven(scene.context, scene.context.spec, MODEL)


@pytest.mark.parametrize(("step", "kind"), [
    (Step("lower", MODEL, "", data={"routes": [MODEL]}), Lower),
    (Step("drain", "x", "", data={"routes": [MODEL], "seconds": 1, "when_busy": "cut"}), Drain),
    (Step("raise", MODEL, "", data={"routes": [MODEL]}), Raise),
    (Step("keep-spec", "stack", ""), KeepSpec),
    (Step("reuse-evidence", MODEL, ""), ReuseEvidence),
])  # fmt: skip
def test_every_step_of_an_edit_has_its_action(scene, step, kind):
    assert isinstance(build(step, scene.context), kind)
