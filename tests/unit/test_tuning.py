from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_cases import case_facts

from orchestrator.decide.tuning import Setting, tuning
from orchestrator.decide.tuning.state import parse_version
from orchestrator.decide.verdict.text import tuning_lines
from orchestrator.facts import Spread, Traffic

NAMES = ["OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE", "OLLAMA_CONTEXT_LENGTH",
         "OLLAMA_FLASH_ATTENTION", "OLLAMA_KV_CACHE_TYPE", "OLLAMA_KEEP_ALIVE"]  # fmt: skip
GIB = 2**30
KV = 131072     # bytes per token of Llama 3.1 8B: 2 x 32 layers x 8 heads x 128 x 2 bytes
BUSY = {"at_once": 6, "usual": 4, "requests": 900, "seconds": 604800}
HELD = {"name": "llama3.1:8b", "size": 6 * GIB, "size_vram": 6 * GIB, "context_length": 8192}


def plan(**case: Any) -> dict[str, Setting]:
    data = {"models": ["llama3.1:8b"], "loaded": [HELD], "gpus": ["24GiB cc8.9 used7GiB"], **case}
    return {one.name: one for one in tuning(case_facts(data))}


def vars_of(name: str) -> dict[str, Any]:
    model = case_facts({"models": [name]}).ollama.models[0]
    return {key: getattr(model, key) for key in ("name", "size", "parameter_size")}


def test_seven_settings_each_with_a_reason_and_what_it_does() -> None:
    found = plan()
    assert list(found) == NAMES
    assert all(one.why and one.really and one.today and one.proposed for one in found.values())


def test_parallel_follows_the_load_and_costs_its_cache() -> None:
    one = plan(traffic=BUSY)["OLLAMA_NUM_PARALLEL"]
    assert (one.today, one.proposed) == ("1 (default)", "4")
    assert one.vram_cost == 3 * 8192 * KV


def test_parallel_is_left_where_the_load_is_unknown_or_small() -> None:
    assert not plan()["OLLAMA_NUM_PARALLEL"].changes
    assert not plan(traffic={**BUSY, "at_once": 1, "usual": 1})["OLLAMA_NUM_PARALLEL"].changes
    assert not plan(traffic=BUSY, env={"OLLAMA_NUM_PARALLEL": 8})["OLLAMA_NUM_PARALLEL"].changes


def test_a_cache_of_unknown_size_is_raised_step_by_step() -> None:
    found = plan(models=[{"name": "mine", "size": GIB}], loaded=[{**HELD, "name": "mine"}], traffic=BUSY)
    one = found["OLLAMA_NUM_PARALLEL"]
    assert (one.proposed, one.vram_cost) == ("2", None)
    assert "step by step" in one.why


def test_parallel_never_costs_more_than_is_free() -> None:
    for used in range(7, 25):
        found = plan(gpus=[f"24GiB cc8.9 used{used}GiB"], traffic={**BUSY, "usual": 40, "at_once": 40})
        total = sum(one.vram_cost or 0 for one in found.values())
        assert total <= max(0, 24 - used - 1) * GIB
        assert int(found["OLLAMA_NUM_PARALLEL"].proposed) <= 8


def test_half_the_cache_makes_room_and_needs_flash_attention() -> None:
    found = plan(gpus=["24GiB cc8.9 used21GiB"], traffic=BUSY)
    assert found["OLLAMA_KV_CACHE_TYPE"].proposed == "q8_0"
    assert found["OLLAMA_FLASH_ATTENTION"].proposed == "1"
    assert int(found["OLLAMA_NUM_PARALLEL"].proposed) > 1
    assert (found["OLLAMA_KV_CACHE_TYPE"].vram_cost or 0) < 0


@pytest.mark.parametrize("family", ["qwen3vl", "qwen35moe", "qwen3next", "nemotron_h_moe", "mllama", "lfm2"])
def test_some_families_are_served_one_at_a_time(family: str) -> None:
    model = {"name": "m", "family": family, "size": GIB}
    found = plan(models=[model], loaded=[{**HELD, "name": "m"}], traffic=BUSY)["OLLAMA_NUM_PARALLEL"]
    assert not found.changes
    assert "one request at a time with m" in found.why


def test_embedding_models_are_served_one_at_a_time() -> None:
    model = {"name": "e", "capabilities": ["embedding"], "size": GIB}
    found = plan(models=[model], loaded=[{**HELD, "name": "e"}], traffic=BUSY)
    assert not found["OLLAMA_NUM_PARALLEL"].changes


def test_context_is_pinned_shortened_or_lengthened_by_evidence() -> None:
    pinned = plan()["OLLAMA_CONTEXT_LENGTH"]
    assert (pinned.proposed, pinned.vram_cost, pinned.changes) == ("8192", 0, True)
    large = {**HELD, "size": 10 * GIB, "size_vram": 10 * GIB, "context_length": 32768}
    long = plan(loaded=[large], traffic={**BUSY, "longest_prompt": 1500})
    assert long["OLLAMA_CONTEXT_LENGTH"].proposed == "4096"
    assert long["OLLAMA_CONTEXT_LENGTH"].vram_cost == (4096 - 32768) * KV
    cut = plan(traffic={**BUSY, "truncated": 3})["OLLAMA_CONTEXT_LENGTH"]
    assert cut.proposed == "16384"
    assert cut.vram_cost == 8192 * KV


def test_a_saving_is_never_more_than_what_is_held() -> None:
    held = [{**HELD, "context_length": 131072}]     # as with sliding windows: the cache is smaller than the sum
    found = plan(loaded=held, traffic={**BUSY, "longest_prompt": 1500})["OLLAMA_CONTEXT_LENGTH"]
    assert found.proposed == "4096"
    assert -2 * GIB < (found.vram_cost or 0) < 0


def test_a_default_beyond_the_model_costs_nothing() -> None:
    found = plan(gpus=["80GiB cc9.0"], loaded=[], traffic={**BUSY, "longest_prompt": 9000})["OLLAMA_CONTEXT_LENGTH"]
    assert found.today == "262144 (default)"
    assert found.vram_cost == (16384 - 131072) * KV


def test_context_of_a_modelfile_is_not_touched_by_the_environment() -> None:
    own = {**vars_of("llama3.1:8b"), "parameters": {"num_ctx": 8192}}
    found = plan(models=[own], loaded=[], env={"OLLAMA_CONTEXT_LENGTH": 65536}, traffic={**BUSY, "longest_prompt": 900})
    assert found["OLLAMA_CONTEXT_LENGTH"].vram_cost == 0
    assert "sets its own" in found["OLLAMA_CONTEXT_LENGTH"].really


def test_context_is_not_lengthened_where_it_does_not_fit() -> None:
    cut = plan(gpus=["8GiB cc8.9 used7GiB"], traffic={**BUSY, "truncated": 3})["OLLAMA_CONTEXT_LENGTH"]
    assert cut.proposed == "8192"
    assert "allows no more" in cut.why


@pytest.mark.parametrize(("version", "gpus", "default"), [
    ("0.32.6", ["8GiB cc8.9"], "4096"), ("0.32.6", ["24GiB cc8.9"], "32768"),
    ("0.32.6", ["24GiB cc8.9", "24GiB cc8.9"], "262144"), ("0.15.4", ["80GiB cc9.0"], "4096"),
    ("0.3.0", ["80GiB cc9.0"], "2048"), ("v0.33.0-rc2", [], "4096"), ("", ["24GiB cc8.9"], "32768"),
])  # fmt: skip
def test_default_context_depends_on_version_and_vram(version: str, gpus: list[str], default: str) -> None:
    one = plan(ollama_version=version, gpus=gpus, loaded=[])["OLLAMA_CONTEXT_LENGTH"]
    assert one.today == f"{default} (default)"


def test_flash_attention_by_version() -> None:
    assert not plan()["OLLAMA_FLASH_ATTENTION"].changes
    assert plan(ollama_version="0.29.1")["OLLAMA_FLASH_ATTENTION"].proposed == "1"
    assert plan(env={"OLLAMA_FLASH_ATTENTION": 0})["OLLAMA_FLASH_ATTENTION"].proposed == "unset"


def test_overhead_is_told_to_do_nothing_since_0_30() -> None:
    env = {"OLLAMA_GPU_OVERHEAD": 1073741824, "OLLAMA_MAX_VRAM": 1}
    assert plan(env=env)["OLLAMA_GPU_OVERHEAD"].proposed == "unset"
    assert "OLLAMA_GPU_OVERHEAD" not in plan(env=env, ollama_version="0.24.0")
    assert "OLLAMA_MAX_VRAM" in plan(env=env)


def test_more_models_only_where_they_fit_together() -> None:
    models = ["llama3.1:8b", *({"name": f"m{n}", "size": 2 * GIB} for n in range(3))]
    used = {"llama3.1:8b": 9, "m0": 5, "m1": 5, "m2": 2}
    found = plan(models=models, traffic={**BUSY, "models": used}, gpus=["80GiB cc9.0 used7GiB"])
    assert found["OLLAMA_MAX_LOADED_MODELS"].proposed == "4"
    assert (found["OLLAMA_MAX_LOADED_MODELS"].vram_cost or 0) > 6 * GIB
    tight = plan(models=models, traffic={**BUSY, "models": used}, gpus=["16GiB cc9.0 used7GiB"])
    assert not tight["OLLAMA_MAX_LOADED_MODELS"].changes


def test_queue_is_raised_only_after_refusals() -> None:
    assert not plan(traffic=BUSY)["OLLAMA_MAX_QUEUE"].changes
    found = plan(traffic={**BUSY, "busy": 4})["OLLAMA_MAX_QUEUE"]
    assert found.proposed == "1024"
    assert "wait for a model to load" in found.really


def test_keep_alive_only_where_what_is_used_stays_in_vram() -> None:
    assert plan(traffic=BUSY)["OLLAMA_KEEP_ALIVE"].proposed == "-1"
    assert not plan()["OLLAMA_KEEP_ALIVE"].changes
    spilled = [{**HELD, "size_vram": GIB}]
    assert not plan(traffic=BUSY, loaded=spilled)["OLLAMA_KEEP_ALIVE"].changes
    used = {"llama3.1:8b": 5, "other": 5}
    assert not plan(traffic={**BUSY, "models": used})["OLLAMA_KEEP_ALIVE"].changes


def test_outside_docker_today_is_said_to_be_a_guess() -> None:
    found = plan(container=False)
    assert all("cannot be seen" in found[name].today for name in NAMES if name != "OLLAMA_CONTEXT_LENGTH")


def test_withheld_values_are_left_alone() -> None:
    facts = case_facts({"models": ["llama3.1:8b"], "loaded": [HELD], "traffic": BUSY})
    assert facts.ollama.container
    container = dataclasses.replace(facts.ollama.container, withheld=("OLLAMA_NUM_PARALLEL",))
    one = tuning(dataclasses.replace(facts, ollama=dataclasses.replace(facts.ollama, container=container)))[0]
    assert one.today.startswith("withheld")
    assert not one.changes


def test_a_short_log_shortens_no_context() -> None:
    held = [{**HELD, "context_length": 32768}]
    found = plan(loaded=held, traffic={**BUSY, "seconds": 600, "longest_prompt": 1500})["OLLAMA_CONTEXT_LENGTH"]
    assert found.proposed == "32768"


def test_unreadable_values_count_as_the_default() -> None:
    found = plan(env={"OLLAMA_NUM_PARALLEL": "four", "OLLAMA_CONTEXT_LENGTH": "8k", "OLLAMA_MAX_QUEUE": "-1"}, traffic=BUSY)
    assert found["OLLAMA_NUM_PARALLEL"].proposed == "4"
    assert found["OLLAMA_MAX_QUEUE"].proposed == "512"


def test_a_mac_has_settings_too() -> None:
    found = plan(gpus=[], host={"system": "Darwin", "machine": "arm64"}, traffic=BUSY)
    assert found["OLLAMA_NUM_PARALLEL"].proposed == "4"
    assert "check that it fits" in found["OLLAMA_NUM_PARALLEL"].why


@pytest.mark.parametrize(("text", "parts"), [
    ("0.32.6", (0, 32, 6)), ("v0.30", (0, 30, 0)), ("0.33.0-rc2", (0, 33, 0)), ("", (99, 0, 0)), ("dev", (99, 0, 0)),
    ("0.0.0", (99, 0, 0)),
])  # fmt: skip
def test_versions(text: str, parts: tuple[int, ...]) -> None:
    assert parse_version(text) == parts


def test_the_text_says_what_to_set_and_its_price() -> None:
    lines = "\n".join(tuning_lines(list(plan(traffic=BUSY).values())))
    assert "OLLAMA_NUM_PARALLEL: today 1 (default); set 4; VRAM +3.0 GiB" in lines
    assert "OLLAMA_MAX_QUEUE: today 512 (default); keep; VRAM unchanged" in lines
    assert "VRAM of all together: +3.0 GiB" in lines


def test_stated_users_are_not_called_measured() -> None:
    facts = case_facts({"models": ["llama3.1:8b"], "loaded": [HELD], "gpus": ["24GiB cc8.9 used7GiB"]})
    stated = Traffic("stated", concurrency=Spread(1, peak=3))
    one = tuning(dataclasses.replace(facts, traffic=stated))[0]
    assert one.proposed == "3"
    assert "(stated)" in one.why


ODD = st.sampled_from(["", " ", "0", "-1", "8", "1e3", "9" * 30, "true", "q8_0", "Q4_0", "f16", "'4'", "5m", "\u0663", "8k"])
NUMBERS = st.sampled_from([-5, 0, 1, 4096, 10**12])


@settings(max_examples=150, deadline=None)
@given(
    env=st.dictionaries(st.sampled_from([*NAMES, "OLLAMA_GPU_OVERHEAD"]), ODD),
    own=st.one_of(st.none(), NUMBERS, st.sampled_from(["8192", True, math.nan, math.inf])),
    size=NUMBERS, vram=NUMBERS, context=NUMBERS, used=st.integers(0, 24), version=st.sampled_from(["", "0.1.2", "0.30", "x.y"]),
    usual=st.sampled_from([1, 3, 500]),
)  # fmt: skip
def test_odd_settings_and_sizes_give_a_plan(
    env: dict[str, str], own: Any, size: int, vram: int, context: int, used: int, version: str, usual: int
) -> None:
    model = {**vars_of("llama3.1:8b"), "parameters": {} if own is None else {"num_ctx": own}}
    held = {"name": "llama3.1:8b", "size": size, "size_vram": vram, "context_length": context}
    found = plan(models=[model], loaded=[held], env=env, gpus=[f"24GiB cc8.9 used{used}GiB"], ollama_version=version,
                 traffic={**BUSY, "usual": usual, "at_once": usual, "truncated": 1})
    assert int(found["OLLAMA_NUM_PARALLEL"].proposed) >= 1
    assert int(found["OLLAMA_CONTEXT_LENGTH"].proposed) >= 1
    assert tuning_lines(list(found.values()))
