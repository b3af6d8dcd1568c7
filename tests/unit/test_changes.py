"""An edit of a deployed stack's file: which containers, why, what happens to traffic, what is proven again."""

from __future__ import annotations

import pytest

from orchestrator.plan.edits import changes
from orchestrator.spec import parse_spec
from orchestrator.state import EngineState, RouteState, StackState, States

TEXT = """
name: main
accelerator: cpu
ollama: {container: ollama, env: {A: "1"}}
engines: {one: {repo: org/one, max_num_seqs: 16}}
routes: {"a:1": {engine: one}, "b:1": {}}
"""
OLD = parse_spec(TEXT)
GATES = ("health one", "parity a:1", "load a:1")


def states(route=RouteState.CUT_OVER, stack=StackState.TAKEN_OVER):
    return States(stack=stack, engines={"one": EngineState.READY}, routes={"a:1": route}, since={})


def edited(old, new, now=None):
    assert old in TEXT
    return changes(OLD, parse_spec(TEXT.replace(old, new)), now or states())


def test_the_same_file_changes_nothing():
    assert changes(OLD, parse_spec(TEXT + "# note\n"), states()) == []


@pytest.mark.parametrize(("old", "new", "word"), [
    ("max_num_seqs: 16", "max_num_seqs: 32", "max_num_seqs 16 -> 32"),
    ("max_num_seqs: 16", "max_num_seqs: 16, image: x:2", "-> x:2"),
    ("org/one", "org/two", "repo org/one -> org/two"),
    ("accelerator: cpu", "accelerator: cpu\nimages: {vllm: x:3}", "-> x:3"),
])  # fmt: skip
def test_a_live_engine_gets_weight_0_first_and_its_gates_again(old, new, word):
    (change,) = edited(old, new)
    assert (change.service, change.live, change.how, change.gates_rerun) == ("vllm-one", True, "weight 0 first", GATES)
    assert word in change.cause
    assert "migrate up" in change.undo


def test_an_engine_without_traffic_is_made_anew_in_place():
    (change,) = edited("max_num_seqs: 16", "max_num_seqs: 8", states(RouteState.PROVEN))
    assert (change.live, change.how) == (False, "in place")


def test_ollama_and_the_port_are_refused_after_the_take_over_only():
    secret = edited('A: "1"', 'A: "2"')[0]
    assert (secret.service, secret.how, secret.cause) == ("ollama", "refused", "env (A) changed")
    assert edited('A: "1"', 'A: "2"', states(stack=StackState.PLANNED))[0].how == "hold"
    port = edited("accelerator: cpu", "accelerator: cpu\ngateway: {port: 11500}")[0]
    assert (port.service, port.how) == ("gateway", "refused")


def test_routes_that_come_and_go():
    found = edited('"b:1": {}', '"b:1": {engine: one}')
    assert [one.service for one in found] == ["route b:1", "vllm-one"]
    gone = edited('"a:1": {engine: one}, "b:1": {}', '"b:1": {engine: one}')
    assert ("route a:1", True, "weight 0 first") in [(one.service, one.live, one.how) for one in gone]


def test_thresholds_alone_recreate_nothing():
    (change,) = edited("accelerator: cpu", "accelerator: cpu\ncutover: {bake: 5m}")
    assert (change.service, change.how, change.gates_rerun) == ("cutover", "in place", ())
    (load,) = edited("accelerator: cpu", "accelerator: cpu\nload: {users: [1, 2]}")
    assert load.gates_rerun == ("load a:1",)
