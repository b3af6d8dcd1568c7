"""The contract: what is read off answers, how facts are judged, the run against both stand-ins and the adapter."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin_servers

from orchestrator.checks import Side
from orchestrator.checks.contract import Usage, check_contract, load_probes, recompute, usage_of
from orchestrator.checks.contract.ask import Reply
from orchestrator.checks.contract.bodies import form_of
from orchestrator.checks.contract.derived import own_stops, written
from orchestrator.checks.contract.probes import parse_probes, picture
from orchestrator.checks.contract.readers import READERS, fact_of
from orchestrator.checks.contract.temperature import differ, estimate
from orchestrator.errors import UsageError
from orchestrator.facts import Caller, Facts, OllamaFacts, Spread, Traffic

sys.path.append(str(Path(__file__).parents[1] / "integration"))
from adapter_engine import ROUTE, free_port, serve

MODEL = "llama3.1:8b"
PROBES = {one.name: one for one in load_probes()}
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "llama3_json")


# temperature


def drawn(temperature: float, number: int, seed: int, spread: float = 2.5) -> list:
    rng = random.Random(seed)
    found = []
    for _ in range(number):
        listed = [rng.gauss(0, spread) for _ in range(20)]
        weights = [math.exp(one / temperature) for one in listed] if temperature else None
        found.append((rng.choices(listed, weights)[0] if weights else max(listed), listed))
    return found


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.5])
def test_the_estimate_is_near_the_truth(temperature: float) -> None:
    found = estimate(drawn(temperature, 400, 1))
    assert abs(found.cold - 1 / temperature) < 4 * found.error
    assert found.error < 0.15 / temperature


def test_equal_servers_are_rarely_called_different_and_other_defaults_are_found() -> None:
    equal = [differ(estimate(drawn(1.0, 256, seed)), estimate(drawn(1.0, 256, seed + 1000))) for seed in range(15)]
    other = [differ(estimate(drawn(0.6, 256, seed)), estimate(drawn(1.0, 256, seed + 1000))) for seed in range(15)]
    greedy = differ(estimate(drawn(0, 256, 1)), estimate(drawn(1.0, 256, 2)))
    assert (sum(map(bool, equal)), greedy) == (0, True)
    assert sum(map(bool, other)) >= 14


def test_other_weights_at_the_same_temperature_are_no_difference() -> None:
    sharp = estimate(drawn(0.8, 256, 3, spread=4.0))
    flat = estimate(drawn(0.8, 256, 4, spread=1.5))
    assert differ(sharp, flat) is False


@pytest.mark.parametrize("draws", [[], [(-1.0, [-1.0])], [(-1.0, [-1.0, -1.0])] * 50])
def test_draws_without_a_choice_say_nothing(draws: list) -> None:
    assert differ(estimate(draws), estimate(drawn(1.0, 100, 1))) is None


# reading


ODD = ["", "{", "[]", "null", '"x"', "{}", '{"choices": []}', '{"choices": [null]}', "1" * 5000, '{"message": 3}',
       "data: {", '{"data": [{"embedding": "?"}]}', "[" * 5000]


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_reader_never_raises(name: str) -> None:
    args = {"cut": {"word": "x"}, "limit": {"most": 1}, "tool_call": {"name": "x"}, "parser": {"name": "x"},
            "says": {"text": "x"}, "listed": {"model": "x"}, "echo": {"model": "x"}}.get(name, {})
    for body in ODD:
        for kind in ("application/json", "text/event-stream", ""):
            for replies in ([Reply(200, kind, body)], [Reply(200, kind, body)] * 2, [Reply(500, kind, body)], []):
                json.dumps(fact_of(name, replies, args))


@pytest.mark.parametrize("content, finish, call", [
    ('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', "stop", "left in the text"),
    ('{"name": "f", "parameters": {}}', "stop", "left in the text"),
    ('[TOOL_CALLS]f{"a": 1}', "stop", "left in the text"),
    ("f({})", "stop", "left in the text"),
    ('{"name": "f", "para', "length", "words"),
    ("The level is high.", "stop", "words"),
])
def test_a_call_that_was_not_read_is_told_from_words(content: str, finish: str, call: str) -> None:
    answer = {"choices": [{"message": {"content": content}, "finish_reason": finish}]}
    assert fact_of("tool_call", [Reply(200, "", json.dumps(answer))], {"name": "f"}) == {
        "supported": True, "call": call, "arguments": "?"}


@pytest.mark.parametrize("deltas, call", [
    ([{"tool_calls": [{"function": {"name": "f"}}]}, {"tool_calls": [{"function": {"arguments": "{}"}}]}], "called"),
    ([{"content": "<tool_call>{"}, {"content": '"name": "f"}'}], "left in the text"),
    ([{"reasoning": "Let me see."}], "?"),
    ([{"content": ""}], "left in the text"),
    ([{"content": "<tool_call>f"}, {"tool_calls": [{"function": {"name": "f"}}]}], "left in the text"),
])
def test_a_streamed_call_is_read_as_one(deltas: list, call: str) -> None:
    body = "".join(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n" for delta in deltas) + "data: [DONE]\n\n"
    assert fact_of("parser", [Reply(200, "text/event-stream", body)], {"name": "f"})["call"] == call


@pytest.mark.parametrize("pieces, told", [(["a", "b"], "several"), (["short"], "?"), ([], "?"), (["long " * 20], "one")])
def test_a_stream_in_one_piece_is_told_only_of_long_texts(pieces: list[str], told: str) -> None:
    native = "".join(json.dumps({"message": {"content": one}, "done": False}) + "\n" for one in pieces) + '{"done": true}\n'
    events = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': one}}]})}\n\n" for one in pieces)
    assert fact_of("ndjson", [Reply(200, "", native)], {})["increments"] == told
    assert fact_of("sse", [Reply(200, "", events)], {})["increments"] == told


def test_forms_of_errors_are_told_apart() -> None:
    bodies = ['{"error":{"message":"x","type":"y"}}', '{"error":"x"}', '{"detail":"x"}', "404", "", "[]"]
    assert [form_of(Reply(400, "", body)) for body in bodies] == ["OpenAI", "Ollama", "detail", "text", "empty", "text"]


# judging


def lines(
    probe: str, old: dict | None, new: dict | None, *, used: Usage | None = None, old_status: int = 200, new_status: int = 200,
) -> list[dict]:
    entry = PROBES[probe]
    found = [{"kind": "plan", "target": "m", "used": (used or Usage()).to_json()}, {**entry.to_json(), "kind": "probe"}]
    sides = (("old", old, old_status), ("new", new, new_status))
    return found + [
        {"kind": "answer", "probe": probe, "side": side, "step": step, "arrivals": 1, "failure": "", "status": status,
         "type": "application/json", "body": json.dumps(body)}
        for side, body, status in sides for step in range(len(entry.steps))
    ]


def said(text: str, finish: str = "stop") -> dict:
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}]}


@pytest.mark.parametrize("probe, old, new, name", [
    ("stop word", said('"begin '), said('"begin halt end"'), "dropped stop word"),
    ("tool call", {"choices": [{"message": {"tool_calls": [{"function": {"name": "river_level", "arguments": "{}"}}]}}]},
     said('<tool_call>{"name": "river_level"}</tool_call>'), "wrong tool parser"),
    ("reasoning", {"choices": [{"message": {"reasoning": "hm", "content": ""}}]}, said("<think>hm"), "thoughts elsewhere"),
    ("JSON schema", said('"seven"'), said("it is seven"), "schema not kept"),
    ("max_tokens", {"usage": {"completion_tokens": 3}}, {"usage": {"completion_tokens": 90}}, "limit not kept"),
    ("v1 usage", {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
     {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9}}, "other usage"),
])
def test_a_difference_is_named(probe: str, old: dict, new: dict, name: str) -> None:
    verdict = recompute(lines(probe, old, new))
    assert (verdict.result, verdict.summary.split(" (")[0]) == ("fail", name)


@pytest.mark.parametrize("probe, old, new", [
    ("stop word", said('"begin '), said('"begin hal', "length")),
    ("tool call", {"choices": [{"message": {"tool_calls": [{"function": {"name": "x", "arguments": "{}"}}]}}]}, said("no")),
    ("max_completion_tokens", {"usage": {"completion_tokens": 6}}, {"usage": {"completion_tokens": 3}}),
    ("n", {"choices": [{}]}, {"choices": [{}, {}]}),
])
def test_what_the_model_decides_or_is_more_than_before_is_tolerated(probe: str, old: dict, new: dict) -> None:
    assert recompute(lines(probe, old, new)).result == "pass"


@pytest.mark.parametrize("used, result", [
    (Usage(), "fail"), (Usage(paths={"/v1/chat/completions": 9}), "fail"), (Usage(paths={"/api/chat": 9}), "pass"),
    (Usage(uses=("tools",)), "pass"), (Usage(uses=("stop",), paths={"/api/chat": 9}), "fail"),
])
def test_red_only_where_somebody_would_notice(used: Usage, result: str) -> None:
    verdict = recompute(lines("stop word", said('"begin '), said('"begin halt end"'), used=used))
    assert verdict.result == result
    if result == "pass":
        assert verdict.evidence["groups"]["stop"]["result"] == "amber"
        assert "nobody" in verdict.evidence["matrix"][0]["why"]


def test_who_would_notice_is_told() -> None:
    used = Usage(places={"/v1/chat/completions": ["app/ask.py:12", "b.py:1"]})
    verdict = recompute(lines("stop word", said('"begin '), said('"begin halt end"'), used=used))
    assert "asked in app/ask.py:12, b.py:1" in verdict.summary
    assert verdict.evidence["matrix"][0]["who"] == ["app/ask.py:12", "b.py:1"]


def test_a_refusal_is_a_fact_and_support_is_more() -> None:
    refused = recompute(lines("logprobs", said("x"), None, new_status=400))
    assert (refused.result, "logprobs refused" in refused.summary) == ("fail", True)
    assert recompute(lines("logprobs", None, said("x"), old_status=400)).result == "pass"
    assert recompute(lines("logprobs", None, None, old_status=400, new_status=501)).result == "pass"


def test_evidence_tells_what_is_used() -> None:
    ollama = OllamaFacts("http://x", "0.32")
    callers = (Caller("a.py", 3, "native", 'requests.post(url + "/api/generate")', works=True),)
    traffic = Traffic(source="log", paths={"/api/chat": 5, "/api/tags": 2}, prompt_tokens=Spread(n=5, peak=900))
    seen = usage_of(Facts(ollama, traffic=traffic, callers=callers))
    assert (seen.paths, seen.longest) == ({"/api/chat": 5, "/api/generate": 0}, 900)
    assert (seen.path("/v1/chat/completions"), seen.path("/api/generate")) == (False, True)
    assert usage_of(Facts(ollama, callers=callers)).path("/api/chat") is None
    assert usage_of(Facts(ollama, callers=callers)).who(["/api/generate"]) == ["a.py:3"]
    assert usage_of(None).path("/api/chat") is None
    assert Usage.from_json(json.loads(json.dumps(seen.to_json()))) == seen


# what is derived


def test_stop_words_that_any_model_can_say_are_taken() -> None:
    parameters = 'stop                           "<|eot_id|>"\nstop  "User:"\nstop "\\nHi"\nstop ###\ntop_k 4\nstop \n'
    assert list(own_stops(parameters)) == ["User:", "###"]


@pytest.mark.parametrize("opened, called, said_, call", [
    ("Q<|a|>", 'Q<|a|><tool_call>{"name": "river_level", "x": "Danube"}</tool_call><|end|>\n',
     "Q<|a|>Quite high, I think.<|end|>\n", '<tool_call>{"name": "river_level", "x": "Danube"}</tool_call>'),
    ("Q<|a|>", "Q<|a|><|end|>", "Q<|a|>Quite high, I think.<|end|>", ""),
    ("", "", "", ""),
    ("Q[/INST]", "Q[/INST] [TOOL_CALLS] river_level Danube</s>", "Q[/INST] Quite high, I think.</s>",
     " [TOOL_CALLS] river_level Danube"),
])
def test_a_call_is_found_as_the_template_writes_it(opened: str, called: str, said_: str, call: str) -> None:
    assert written(opened, called, said_) == call


def test_the_picture_is_a_png() -> None:
    assert picture().startswith("iVBORw0KGgo")


# the file of probes


def test_the_built_in_probes_cover_the_contract() -> None:
    groups = {one.group for one in PROBES.values()}
    assert groups >= {"streaming", "usage", "stop", "sampling", "logprobs", "limits", "tools", "json", "reasoning",
                      "system", "vision", "embeddings", "errors", "native"}


def test_no_probe_makes_ollama_load_its_model_anew() -> None:
    reloading = {"num_ctx", "num_thread", "num_gpu", "num_batch", "main_gpu", "use_mmap", "shift", "keep_alive"}
    for one in PROBES.values():
        for step in one.steps:
            assert not reloading & {*(step.body or {}), *((step.body or {}).get("options") or {})}, one.name


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_probes("""
- {name: a, group: g, path: no-slash, read: answered}
- {name: b, group: g, path: /x, read: nonsense}
- {name: c, group: g, read: answered, typo: 1}
- {name: d, group: g, path: /x, read: answered, tolerate: {x: {}}}
""", "mine.yaml")
    for place in ("[0].steps", "[1]", "nonsense", "[2]", "[3].tolerate.x.reason"):
        assert place in caught.value.evidence, caught.value.evidence


@pytest.mark.parametrize("text", ["", "x", "[]", "a: [", "[1]", "- {name: a}"])
def test_files_that_hold_no_probes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_probes(text, "p")


# the run


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A stand-in Ollama, a stand-in vLLM, and the adapter in front of it."""
    folder = tmp_path_factory.mktemp("contract")
    old = standin_servers.ollama(tmp_path_factory.mktemp("models"))
    new = standin_servers.vllm("repo/model-8b", "--served-model-name", MODEL, *TOOLS)
    route = {**ROUTE, "url": new.url, "parameters": {}, "capabilities": ["completion", "tools"], "served": MODEL}
    (folder / "config.json").write_text(json.dumps({"version": "0.32.15", "ollama": old.url, "routes": {MODEL: route}}))
    for adapter in serve(folder / "config.json", free_port(), folder / "log"):
        yield {"ollama": old.url, "vllm": new.url, "adapter": adapter}
    old.stop()
    new.stop()


def test_the_adapter_keeps_the_contract(servers: dict[str, str]) -> None:
    seen = []
    headers = {"Authorization": "Bearer secret", "X-Migrate-Engine": "e"}
    verdict, raw = check_contract(Side("ollama", servers["ollama"]), Side("vllm", servers["adapter"], headers), MODEL,
                                  progress=lambda *step: seen.append(step))
    assert verdict.result == "pass", [one for one in verdict.evidence["matrix"] if one["result"] == "differs"]
    assert len(verdict.evidence["matrix"]) > 55
    assert "secret" not in json.dumps(raw)
    assert recompute(json.loads(json.dumps(raw))) == verdict
    assert seen[-1][0] < seen[-1][1]


def test_a_bare_vllm_breaks_native_callers_and_spares_those_that_do_not_ask(servers: dict[str, str]) -> None:
    sides = Side("ollama", servers["ollama"]), Side("vllm", servers["vllm"])
    verdict, raw = check_contract(*sides, MODEL)
    assert verdict.result == "fail"
    assert verdict.evidence["groups"]["native"]["result"] == "fail"
    spared = [{**line, "used": Usage(paths={"/v1/responses": 3}).to_json()} if line["kind"] == "plan" else line
              for line in raw]
    verdict = recompute(spared)
    assert verdict.result == "pass", verdict.summary
    assert verdict.evidence["groups"]["native"]["result"] == "amber"


@pytest.mark.parametrize("gone, result", [("ollama", "inconclusive"), ("vllm", "inconclusive")])
def test_a_side_that_is_not_there_is_no_verdict(servers: dict[str, str], gone: str, result: str) -> None:
    urls = {**servers, gone: "http://127.0.0.1:9"}
    verdict, raw = check_contract(Side("ollama", urls["ollama"]), Side("vllm", urls["vllm"]), MODEL)
    assert (verdict.result, verdict.evidence["lost"]["side"]) == (result, "old" if gone == "ollama" else "new")
    assert recompute(raw) == verdict


def test_groups_may_be_left_out(servers: dict[str, str]) -> None:
    chosen = [one for one in PROBES.values() if one.group in ("usage", "errors")]
    side = Side("ollama", servers["ollama"])
    verdict, _ = check_contract(side, side, MODEL, probes=chosen, skip=("errors", "sampling", "context", "stop"))
    assert set(verdict.evidence["groups"]) == {"usage"}


def test_embedding_models_have_probes_of_their_own(servers: dict[str, str]) -> None:
    side = Side("ollama", servers["ollama"])
    verdict, _ = check_contract(side, side, "nomic-embed-text", kind="embedding")
    facts = {row["probe"]: row["old"] for row in verdict.evidence["matrix"]}
    assert verdict.result == "pass"
    assert set(verdict.evidence["groups"]) == {"embeddings"}
    assert facts["native embed"] == {"supported": True, "count": 2, "dimension": 768, "form": "list", "norm": "1"}


def test_progress_may_end_the_check(servers: dict[str, str]) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    side = Side("ollama", servers["ollama"])
    with pytest.raises(Stop):
        check_contract(side, side, MODEL, progress=stop)
