"""Plans judged by the data files of tests/plan (README.md there)."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import errors
from orchestrator import plan as plans
from orchestrator.errors import MigrateError
from orchestrator.plan.edits import Deployed, between
from orchestrator.spec import parse_spec
from orchestrator.state import SHIFTABLE, EngineState, RouteState, StackState, States

FOLDER = Path(os.environ.get("PLAN_CASES", Path(__file__).parent.parent / "plan"))


def laid_over(base, change):
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = laid_over(merged[key], value) if both else value
    return {key: value for key, value in merged.items() if value is not None}


def read():
    for path in sorted(FOLDER.glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for case in data["cases"]:
            base = laid_over(data["spec"], case.get("change", {}))
            if case.get("deployed", data.get("deployed")):
                case.setdefault("settled", data.get("settled", []))
                case["before"] = laid_over(data["spec"], case.get("was", {}))
            yield pytest.param(parse_spec(yaml.safe_dump(base, sort_keys=False)), case, id=f"{path.stem}: {case['name']}")


def states_of(spec, case):
    if "before" in case:
        spec = between(parse_spec(yaml.safe_dump(case["before"], sort_keys=False)), spec)
    routes = {m: RouteState.PLANNED if r.engine else RouteState.STAYS for m, r in spec.routes.items()}
    routes |= {model: RouteState(word) for model, word in case.get("routes", {}).items()}
    engines = dict.fromkeys(spec.engines, EngineState.ABSENT)
    engines |= {name: EngineState(word) for name, word in case.get("engines", {}).items()}
    return States(StackState(case.get("stack", "planned")), routes, engines, {})


def deployed(case):
    if "before" not in case:
        return None
    weights, held = ({model: float(weight) for model, weight in case.get(key, {}).items()} for key in ("weights", "held"))
    before = parse_spec(yaml.safe_dump(case["before"], sort_keys=False))
    return Deployed(before, weights, held, tuple(case.get("gone", ())),
                    frozenset(case.get("settled", ())))  # fmt: skip


def make(spec, case):
    states, models = states_of(spec, case), tuple(case.get("models", ()))
    match case["command"]:
        case "up":
            return plans.plan_up(spec, states, deployed(case))
        case "undo":
            before = deployed(case)
            return plans.plan_back(spec, before.spec, states, before.held)
        case "cutover":
            approved = {model: float(weight) for model, weight in case.get("approved", {}).items()}
            return plans.plan_cutover(spec, states, approved, models, float(case.get("to", 100)))
        case "rollback":
            stop, restore = case.get("stop", False), case.get("restore", False)
            return plans.plan_rollback(spec, states, models, stop=stop, restore=restore)
        case "down":
            return plans.plan_down(spec, states, volumes=case.get("volumes", False))
        case "next":
            return plans.next_command(spec, states)
    raise ValueError(case["command"])


@pytest.mark.parametrize("spec, case", list(read()))
def test_plan(spec, case):
    if "error" in case:
        with pytest.raises(getattr(errors, case["error"]["type"])) as caught:
            make(spec, case)
        assert caught.value.message == case["error"]["message"]
        assert caught.value.hint
        return
    found = make(spec, case)
    assert str(found) == case["plan"].rstrip("\n")
    if "live" in case:
        assert [number for number, step in enumerate(found.steps, 1) if step.touches_live] == case["live"]
    if not isinstance(found, str):
        assert json.loads(json.dumps(found.as_dict()))["steps"] == found.as_dict()["steps"]


def test_the_cases_are_found():
    assert list(read())


TWO = {
    "name": "two", "accelerator": "cpu", "ollama": {"container": "ollama"},
    "engines": {"a": {"repo": "org/a"}, "b": {"repo": "org/b"}},
    "routes": {"a:1": {"engine": "a"}, "b:1": {"engine": "b"}, "c:1": {}},
}
weights = st.integers(0, 1000).map(lambda tenths: tenths / 10)


@given(
    st.dictionaries(st.sampled_from(["a:1", "b:1"]), weights),
    st.integers(1, 1000).map(lambda tenths: tenths / 10),
    st.lists(st.sampled_from(["a:1", "b:1"]), unique=True),
)
def test_a_cutover_rises_to_its_goal_and_touches_only_what_was_named(approved, to, models):
    spec = parse_spec(yaml.safe_dump(TWO))
    states = States(StackState.TAKEN_OVER, dict.fromkeys(("a:1", "b:1"), RouteState.PROVEN), {}, {})
    steps = plans.plan_cutover(spec, states, approved, tuple(models), to).steps
    found = [step.data["weight"] for step in steps]
    assert found == sorted(set(found))
    lowest = min(approved.get(model, 0.0) for model in models or ("a:1", "b:1"))
    assert found[-1:] == ([to] if to > lowest else [])
    assert all(weight > lowest for weight in found)
    assert all(step.touches_live and set(step.data["routes"]) <= set(models or ("a:1", "b:1")) for step in steps)


@given(st.sampled_from(list(RouteState)), st.sampled_from(list(StackState)), st.booleans(), st.booleans())
def test_from_every_state_there_is_a_way_back_and_a_next_command(route, stack, stop, restore):
    spec = parse_spec(yaml.safe_dump(TWO))
    states = States(stack, {"a:1": route, "b:1": route, "c:1": RouteState.STAYS}, {}, {})
    back = plans.plan_rollback(spec, states, (), stop=stop, restore=restore)
    kinds = [step.kind for step in back.steps]
    assert kinds == sorted(kinds, key=["unshift", "stop-engine", "restore"].index)
    assert ("unshift" in kinds) == (stack is StackState.TAKEN_OVER)
    assert plans.plan_down(spec, states, volumes=False).steps[-1].kind == "remove-stack"
    following = plans.next_command(spec, states)
    assert following.startswith("migrate ")
    if following == "migrate cutover":
        assert route in SHIFTABLE


@pytest.mark.parametrize("to", [0.0, -1.0, 100.1, 33.33, float("nan"), float("inf")])
def test_what_is_no_weight_is_refused(to):
    spec = parse_spec(yaml.safe_dump(TWO))
    states = States(StackState.TAKEN_OVER, dict.fromkeys(("a:1", "b:1"), RouteState.PROVEN), {}, {})
    with pytest.raises(MigrateError, match="is not a weight") as caught:
        plans.plan_cutover(spec, states, {}, (), to)
    assert caught.value.exit_code == 2


def test_images_are_listed_once_with_everybody_who_needs_them():
    spec = parse_spec(yaml.safe_dump(laid_over(TWO, {"engines": {"b": {"image": "my/vllm:1"}}})))
    found = plans.images(spec)
    assert list(found) == [spec.ollama.image, spec.images.sidecar, spec.images.gateway, spec.images.vllm, "my/vllm:1"]
    assert found["my/vllm:1"] == ["vllm-b"]
