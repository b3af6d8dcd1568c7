"""Taking turns: computed and told where both do not fit but each alone does, and never rendered."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from decide_cases import facts

from orchestrator import render
from orchestrator.decide.handover import PATIENCE, handover_lines, patience, refusal
from orchestrator.decide.planning import decide_plan
from orchestrator.decide.propose import propose
from orchestrator.facts import Spread, Traffic
from orchestrator.spec import parse_spec
from orchestrator.spec_needs import Needs

TWELVE = {"gpus": ["12282MiB cc8.9"], "models": [{"name": "llama3.1:8b", "size": 4_920_753_328, "quantization": "Q4_K_M"}],
          "env": {"OLLAMA_CONTEXT_LENGTH": "8192"}}  # fmt: skip


def _one(case=TWELVE, **needs):
    found = propose("case", facts(case), needs=Needs(**needs))
    return found, found.handovers[0]


def test_each_alone_holds_its_own_inequality_and_nothing_is_rendered() -> None:
    found, turns = _one()
    assert turns.gpus == turns.ollama_gpus == ("0",)
    assert "Ollama" not in "".join(turns.vllm)
    assert "vLLM" not in "".join(turns.ollama)
    assert not any("does not fit" in line for line in (*turns.vllm, *turns.ollama))
    assert found.spec.engines == {}
    services = yaml.safe_load(render.render(found.spec, facts(TWELVE))["compose.yaml"])["services"]
    assert not [name for name in services if name.startswith("vllm")]


def test_a_swap_counts_the_engines_start_and_ollamas_reload() -> None:
    _, turns = _one()
    assert 60 < turns.to_vllm[0] < turns.to_vllm[1] < 600
    assert 2 < turns.to_ollama[0] < turns.to_ollama[1] < 120
    assert turns.refused
    slow = dataclasses.replace(facts(TWELVE), traffic=Traffic(source="log", latency=Spread(100, p99=40.0, peak=55.0)))
    late = propose("case", slow).handovers[0]
    assert late.to_vllm[1] == pytest.approx(turns.to_vllm[1] + 40)
    assert (late.patience, late.patience_from[:18]) == (55.0, "the longest answer")


def test_refused_unless_clients_wait_longer_than_the_slowest_swap() -> None:
    _, turns = _one(client_timeout="20m")
    assert not turns.refused
    assert (turns.patience, turns.patience_from) == (1200.0, "needs.client_timeout, as stated")
    assert refusal(1200.0, 1200.0) == ""
    assert "up to 20 min, and clients wait 30 s" in refusal(1200.0, PATIENCE)


def test_what_is_known_of_patience() -> None:
    seen = facts(TWELVE)
    assert patience(seen, Needs())[0] == PATIENCE
    quick = dataclasses.replace(seen, traffic=Traffic(source="log", latency=Spread(100, peak=2.0)))
    assert patience(quick, Needs())[0] == PATIENCE, "quick answers do not tell when clients would give up"
    assert patience(quick, Needs(client_timeout=5))[0] == 5


def test_the_section_says_every_phase_and_that_it_is_not_offered() -> None:
    _, turns = _one()
    text = "\n".join(handover_lines(turns))
    for word in ("vLLM alone", "Ollama alone", "prepared", "rehearse", "0 -> 100", "requests held", "way back", "swap to vLLM",
                 "swap back", "clients wait", "refused", "instead", "a second GPU of", "not offered yet"):  # fmt: skip
        assert word in text


def test_the_plan_carries_it_and_keeps_its_verdict() -> None:
    seen = dataclasses.replace(facts(TWELVE), traffic=Traffic(source="stated", concurrency=Spread(0, peak=20)))
    planned = decide_plan("case", seen)
    assert planned.verdict.kind == "migrate"
    assert [one.model for one in planned.handover] == ["llama3.1:8b"]
    assert planned.spec is not None
    assert not planned.spec.migrating()


def test_an_engine_that_stays_resident_is_counted() -> None:
    """The large model has to go beside the small one's engine, so its turn is not computed for an empty GPU."""
    case = {"gpus": ["24564MiB cc8.9"], "env": {"OLLAMA_CONTEXT_LENGTH": "4096"}, "models": [
        {"name": "llama3.2:1b", "size": 1_321_098_329, "quantization": "Q8_0"},
        {"name": "qwen2.5:32b", "size": 19_851_349_898, "quantization": "Q4_K_M"}]}  # fmt: skip
    found = propose("case", facts(case))
    for turns in found.handovers:
        assert found.spec.engines == {} or any("others" in line for line in turns.vllm)


def _written(kv: str, pinned: str = "[llama3.1:8b]"):
    text = f"""
version: 1
name: case
ollama: {{gpus: ["0"], pinned: {pinned}, context_length: 8192}}
engines:
  llama: {{repo: RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16, gpus: ["0"], max_model_len: 8192, kv_cache: {kv},
          gpu_memory_utilization: 0.72}}
routes: {{"llama3.1:8b": {{engine: llama}}}}
needs: {{client_timeout: 1h}}
"""
    return parse_spec(text)


def test_a_file_that_does_not_fit_as_a_whole_is_told_the_same() -> None:
    planned = decide_plan("case", facts(TWELVE), written=_written("1100MiB"))
    assert planned.sums is not None
    assert planned.sums.problems
    turns = planned.handover[0]
    assert (turns.model, turns.gpus, turns.ollama_gpus, turns.refused) == ("llama3.1:8b", ("0",), ("0",), "")
    assert not any("does not fit" in line for line in (*turns.vllm, *turns.ollama))


def test_no_turns_where_the_engine_does_not_fit_alone_or_all_fits() -> None:
    assert decide_plan("case", facts(TWELVE), written=_written("9GiB")).handover == ()
    roomy = {**TWELVE, "gpus": ["40GiB cc8.9"]}
    fits = _written("1100MiB").model_copy(update={"engines": {"llama": _written("1100MiB").engines["llama"].model_copy(
        update={"gpu_memory_utilization": 0.3})}})  # fmt: skip
    planned = decide_plan("case", facts(roomy), written=fits)
    assert planned.sums is not None
    assert (planned.sums.problems, planned.handover) == ([], ())


def test_a_file_that_an_earlier_plan_left_without_engines_is_still_told() -> None:
    seen = dataclasses.replace(facts(TWELVE), traffic=Traffic(source="stated", concurrency=Spread(0, peak=20)))
    first = decide_plan("case", seen)
    assert first.spec is not None
    patient = first.spec.model_copy(update={"needs": Needs(client_timeout="1h")})
    again = decide_plan("case", seen, written=patient)
    assert again.spec is patient
    assert [(one.model, one.refused) for one in again.handover] == [("llama3.1:8b", "")]
    rehearsed = patient.model_copy(update={"accelerator": "cpu"})
    assert decide_plan("case", seen, written=rehearsed).handover == ()
