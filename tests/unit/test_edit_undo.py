"""An edit whose step fails: what ran before comes back, or it is said plainly that Ollama answers."""

import dataclasses
from types import SimpleNamespace

import pytest
from core_stack import MODEL
from test_edit_steps import at_work
from test_traffic import OTHER

from orchestrator.commands import edit
from orchestrator.errors import ExitCode, GateRefused, Inconclusive, MigrateError
from orchestrator.plan import Plan, Step
from orchestrator.plan.edits import Deployed, evidence_digest
from orchestrator.runner import run_plan
from orchestrator.state import Event, RouteState
from orchestrator.steps.lease import held
from orchestrator.steps.registry import build
from orchestrator.stop import Interrupted
from orchestrator.workspace import Workspace

LOWER = Step("lower", MODEL, "why", touches_live=True, data={"routes": [MODEL, OTHER]})
BREAKS = Step("break", "llama", "why")


class Engine:
    """Stands for every step that needs Docker; `breaks` are raised by kind. A new container proves nothing."""

    def __init__(self, scene, breaks):
        self.scene, self.breaks, self.seen = scene, breaks, []

    def build(self, step, context):
        if step.kind in ("lower", "raise", "keep-spec", "reuse-evidence"):
            return build(step, context)
        return SimpleNamespace(already_done=lambda: False, do=lambda: self.do(step, context), undo=lambda: None)

    def do(self, step, context):
        self.seen.append((step.kind, step.target, context.spec.engines["llama"].max_num_seqs))
        if step.kind in self.breaks:
            raise self.breaks[step.kind]
        if step.kind == "recreate-engine":
            for model in (MODEL, OTHER):
                self.scene.journal.move("route", model, Event.READY)
        return {}


@pytest.fixture
def make(tmp_path, monkeypatch):
    scene = at_work(tmp_path, monkeypatch)
    old = scene.context.spec
    for model in (MODEL, OTHER):
        for gate in ("parity", "load"):
            scene.journal.append("verdict", f"{gate} {model}", "pass", {"spec": evidence_digest(old, gate, model)})
    engines = {"llama": old.engines["llama"].model_copy(update={"max_num_seqs": 99})}
    new = old.model_copy(update={"engines": engines})
    space = Workspace(tmp_path)
    space.keep_deployed(old)

    def carried(*steps, **breaks):
        engine = Engine(scene, {kind.replace("_", "-"): error for kind, error in breaks.items()})
        monkeypatch.setattr(edit, "build", engine.build)
        context = dataclasses.replace(scene.context, spec=new)
        session = SimpleNamespace(
            spec=new, space=space, journal=scene.journal, stop=scene.stop, console=SimpleNamespace(emit=scene.ears),
            context=context,
            run=lambda plan: run_plan(plan, lambda step: engine.build(step, context), scene.journal, scene.ears,
                                      scene.stop, lambda _: None),
        )  # fmt: skip
        scene.engine, scene.old, scene.new, scene.space = engine, old, new, space
        try:
            edit.carry_out(session, Plan("up", "demo", steps), Deployed(old))
        except MigrateError as error:
            scene.error = error
        return scene

    return carried


def weights(scene):
    return scene.gateway.weights[MODEL], scene.gateway.weights[OTHER]


def test_what_ran_before_comes_back_with_its_weights(make):
    scene = make(LOWER, BREAKS, **{"break": MigrateError("vLLM did not start", hint="look", evidence="log")})
    assert ("recreate-engine", "llama", 16) in scene.engine.seen
    assert weights(scene) == (100.0, 10.0)
    assert scene.journal.states().routes == {MODEL: RouteState.CUT_OVER, OTHER: RouteState.SHIFTING}
    assert held(scene.journal) == {}
    assert scene.space.deployed() == scene.old
    error = scene.error
    assert (error.exit_code, error.hint, error.evidence) == (ExitCode.FAILED, "look", "log")
    assert "vLLM did not start. What ran before serves again" in error.message


@pytest.mark.parametrize(("error", "code"), [
    (GateRefused("parity failed"), ExitCode.GATE), (Inconclusive("no verdict"), ExitCode.INCONCLUSIVE),
])  # fmt: skip
def test_a_gate_that_says_no_undoes_it_too(make, error, code):
    scene = make(LOWER, Step("recreate-engine", "llama", "why"), BREAKS, **{"break": error})
    assert [seen[0::2] for seen in scene.engine.seen if seen[0] == "recreate-engine"] == [
        ("recreate-engine", 99), ("recreate-engine", 16),
    ]  # fmt: skip
    assert (weights(scene), scene.error.exit_code) == ((100.0, 10.0), code)
    assert scene.space.deployed() == scene.old


def test_if_that_fails_as_well_ollama_answers_and_it_is_said(make):
    broken = MigrateError("out of memory")
    scene = make(LOWER, BREAKS, **{"break": MigrateError("vLLM did not start"), "recreate_engine": broken})
    assert weights(scene) == (0.0, 0.0)
    assert held(scene.journal) == {MODEL: 100.0, OTHER: 10.0}
    assert f"Ollama answers every request of {MODEL}, {OTHER}" in scene.error.message
    assert "out of memory" in scene.error.message
    assert "migrate up" in scene.error.hint
    assert "migrate rollback" in scene.error.hint
    assert scene.error.exit_code == ExitCode.FAILED


def test_a_weight_comes_back_only_to_an_engine_that_answers(make):
    scene = make(LOWER, BREAKS, **{"break": MigrateError("no"), "check_health": GateRefused("no token")})
    assert weights(scene) == (0.0, 0.0)
    assert "no token" in scene.error.message


def test_an_interruption_undoes_nothing_and_says_who_answers(make):
    scene = make(LOWER, BREAKS, **{"break": Interrupted("interrupted; nothing is lost", code=ExitCode.INTERRUPTED)})
    assert scene.error.exit_code == ExitCode.INTERRUPTED
    assert held(scene.journal) == {MODEL: 100.0, OTHER: 10.0}
    assert [kind for kind, *_ in scene.engine.seen] == ["break"]
    assert any("until migrate up has run to its end" in one.text for one in scene.ears.heard)


def test_after_the_spec_is_kept_nothing_is_undone(make):
    scene = make(LOWER, Step("keep-spec", "stack", "why"), BREAKS, **{"break": MigrateError("not confirmed")})
    assert scene.space.deployed() == scene.new
    assert (weights(scene), scene.error.message) == ((0.0, 0.0), "not confirmed")
    assert held(scene.journal) == {MODEL: 100.0, OTHER: 10.0}


def test_without_traffic_a_gate_keeps_the_spec_and_a_failure_does_not(make):
    scene = make(BREAKS, **{"break": MigrateError("no")})
    assert scene.space.deployed() == scene.old
    scene = make(BREAKS, **{"break": GateRefused("no")})
    assert scene.space.deployed() == scene.new
