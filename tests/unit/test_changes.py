"""An edit of a deployed stack's file: which containers, why, what happens to traffic, what is proven again."""

from __future__ import annotations

import pytest

from orchestrator.plan.edits import between, changes, evidence_digest
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


WHOLE = """
name: main
accelerator: cpu
ollama: {container: ollama, image: o:1, pinned: ["b:1"]}
images: {vllm: v:1, sidecar: s:1, gateway: g:1}
engines: {one: {repo: org/one, max_num_seqs: 16}, two: {repo: org/two, task: embed}}
routes: {"a:1": {engine: one}, "b:1": {}, "e:1": {engine: two, kind: embedding}}
parity: {max_tokens: 9}
load: {users: [3]}
"""


@pytest.mark.parametrize(("old", "new"), [
    ("max_num_seqs: 16", "max_num_seqs: 17"), ("v:1", "v:2"), ("s:1", "s:2"), ("g:1", "g:2"), ("o:1", "o:2"),
    ("org/two", "org/three"), ("users: [3]", "users: [4]"), ("max_tokens: 9", "max_tokens: 8"),
    ("max_num_seqs: 16", "max_num_seqs: 16, drain: 5"), ("max_num_seqs: 16", "max_num_seqs: 16, start_timeout: 5"),
    ('"a:1": {engine: one}', '"a:1": {engine: one, names: [z]}'), ("parity:", "cutover: {bake: 1}\nparity:"),
    ("parity:", "takeover: {drain: 1}\nparity:"), ("parity:", "gateway: {port: 5}\nparity:"),
    ('pinned: ["b:1"]', "pinned: []"), ('pinned: ["b:1"]', 'pinned: ["a:1"]'), ('"b:1": {}', '"b:1": {engine: one}'),
])  # fmt: skip
@pytest.mark.parametrize("stack", [StackState.PLANNED, StackState.TAKEN_OVER])
def test_evidence_expires_exactly_where_a_change_says_so(old, new, stack):
    before, after = parse_spec(WHOLE), parse_spec(WHOLE.replace(old, new))
    now = States(stack=stack, engines=dict.fromkeys(before.engines, EngineState.READY),
                 routes=dict.fromkeys(before.routes, RouteState.CUT_OVER), since={})  # fmt: skip
    said = {gate for change in changes(before, after, now) for gate in change.gates_rerun}
    gates = [("health", "one"), ("parity", "a:1"), ("load", "a:1"), ("health", "two"), ("vectors", "e:1")]
    expired = {f"{gate} {of}" for gate, of in gates
               if evidence_digest(before, gate, of) != evidence_digest(after, gate, of)}  # fmt: skip
    assert said & {f"{gate} {of}" for gate, of in gates} == expired


def test_waits_that_only_change_a_wait_leave_the_container_alone():
    (change,) = edited("max_num_seqs: 16", "max_num_seqs: 16, start_timeout: 99")
    assert (change.how, change.live, change.gates_rerun) == ("in place", False, ())
    assert "keeps running" in change.cause


def test_what_an_edit_owes_counts_as_traffic():
    new = parse_spec(TEXT.replace("max_num_seqs: 16", "max_num_seqs: 8"))
    (change,) = changes(OLD, new, states(RouteState.DEPLOYED), {"a:1": 50.0})
    assert (change.how, change.routes) == ("weight 0 first", ("a:1",))
    (change,) = changes(OLD, new, states(RouteState.DEPLOYED), {"a:1": 0.0})
    assert (change.how, change.routes) == ("in place", ())


def test_pinned_models_are_told_to_ollama_by_number_only():
    assert edited("container: ollama", "container: ollama, pinned: [c]")[0].how == "refused"
    two = parse_spec(WHOLE.replace('pinned: ["b:1"]', 'pinned: ["a:1"]'))
    now = States(stack=StackState.TAKEN_OVER, engines={}, routes={}, since={})
    assert [(one.service, one.how) for one in changes(parse_spec(WHOLE), two, now)] == [("preload", "in place")]


def test_between_two_specs_everything_that_may_run_is_known():
    new = parse_spec(TEXT.replace("engine: one", "engine: other").replace("one: {repo", "other: {repo")
                     .replace('"b:1": {}', '"c:1": {engine: other}')
                     .replace("accelerator: cpu", "accelerator: cpu\ngateway: {control_port: 5}"))  # fmt: skip
    whole = between(OLD, new)
    assert (set(whole.engines), set(whole.routes)) == ({"one", "other"}, {"a:1", "b:1", "c:1"})
    assert (whole.routes["a:1"].engine, whole.gateway.control_port) == ("one", OLD.gateway.control_port)
