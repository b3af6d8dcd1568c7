"""What an engine holds besides its own model: drafts, LoRA slots, larger steps; and that the proof counts it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from orchestrator.decide import flagcheck
from orchestrator.decide.bars import bar
from orchestrator.decide.budget import Proof, proof
from orchestrator.decide.candidates import candidates
from orchestrator.decide.catalog import load
from orchestrator.decide.engine_memory import GIB, MIB, Ask, Part
from orchestrator.decide.hostmemory import wish
from orchestrator.decide.settle import remedy, settled
from orchestrator.decide.speculative import method, refusals, speculative_cost, step_notes
from orchestrator.decide.vllm_named import drafts
from orchestrator.decide.vram import fit, share_of
from orchestrator.facts import AdapterFacts, Facts, Gpu, HubFact, OllamaFacts
from orchestrator.spec import Spec, parse_spec

REPO = "meta-llama/Llama-3.1-8B-Instruct"
DRAFT = "meta-llama/Llama-3.2-1B-Instruct"
ENTRY, SCHEME = load().by_repo(REPO) or (None, "")
assert ENTRY
TARGET = Ask("llama", ENTRY.numbers, SCHEME, max_model_len=32768)
LORA = {"peft_type": "LORA", "r": 16, "target_modules": ["q_proj"], "base_model_name_or_path": REPO}


def spec(total: str = "0", **keys: Any) -> Spec:
    engine = {"repo": REPO, "gpus": [total], "max_model_len": 8192, "kv_cache": "4GiB", **keys}
    routes = {"llama3.1:8b": {"engine": "llama"}}
    return parse_spec(yaml.safe_dump({"version": 1, "name": "x", "engines": {"llama": engine}, "routes": routes}))


def facts(total: int = 24 * GIB) -> Facts:
    return Facts(OllamaFacts("", ""), (Gpu("0", "GPU-a", "x", total, total, 8.9),),
                 adapters=(AdapterFacts("llama", "support", "a/b", LORA),))  # fmt: skip


def sums(**keys: Any) -> Proof:
    return proof(spec(**keys), facts(), load())


@pytest.mark.parametrize(
    ("config", "how"),
    [
        ({"method": "ngram"}, "ngram"), ({"model": "ngram"}, "ngram"), ({}, "ngram"), ({"model": DRAFT}, "draft_model"),
        ({"model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"}, "eagle3"), ({"model": "yuhuili/EAGLE-LLaMA3"}, "eagle"),
        ({"method": "deepseek_mtp"}, "mtp"), ({"method": "MTP"}, "mtp"), ({"method": None, "model": None}, "ngram"),
    ],
)  # fmt: skip
def test_the_method_is_worked_out_as_vllm_does(config: dict[str, Any], how: str) -> None:
    assert method(config) == how


def test_ngram_has_no_second_model() -> None:
    part, why = speculative_cost({"method": "ngram", "num_speculative_tokens": 4}, TARGET)
    assert part
    assert (part.bytes, part.kv_token, why) == (16 * 4 * 128_256 * 4, 0, "")
    assert "no second model" in part.detail


def test_a_draft_model_takes_its_weights_and_its_share_of_each_token() -> None:
    part, _ = speculative_cost({"model": DRAFT, "num_speculative_tokens": 5}, TARGET)
    assert part
    assert 2.3 * GIB < part.bytes < 3 * GIB
    # 16 layers x 8 heads x 64 x 2 x 2 bytes
    assert part.kv_token == 32768
    laden = replace(TARGET, parts=(part,))
    assert laden.kv_token() == TARGET.kv_token() + 32768
    assert laden.one_sequence() > TARGET.one_sequence() + 32768 * 32768


def test_a_draft_on_several_gpus_is_split_as_it_is_told() -> None:
    pair = replace(TARGET, tensor_parallel=2)
    both, _ = speculative_cost({"model": DRAFT}, pair)
    one, _ = speculative_cost({"model": DRAFT, "draft_tensor_parallel_size": 1}, pair)
    assert both
    assert one
    assert both.bytes < one.bytes
    assert both.kv_token * 2 == one.kv_token


def test_heads_are_a_range_whose_large_end_counts() -> None:
    for how in ("eagle", "eagle3", "mtp", "medusa"):
        part, why = speculative_cost({"method": how, "model": "someone/head"}, TARGET)
        assert part, how
        assert why == ""
        assert part.low is not None
        assert 0 < part.low < part.bytes
        assert "not known before" in part.detail
    eagle, _ = speculative_cost({"method": "eagle3", "model": "someone/head"}, TARGET)
    assert eagle
    assert eagle.kv_token == TARGET.kv_token() // 32
    # The real head for this model is 0.8 GB (EAGLE) and 0.85 GB (EAGLE-3).
    assert eagle.low is not None
    assert eagle.low < 0.85e9 < eagle.bytes


def test_a_head_whose_repository_was_seen_is_no_range() -> None:
    fact = HubFact("yuhuili/EAGLE3", "found", "open", {"model_type": "llama", "torch_dtype": "float16"}, 850_000_000)
    part, _ = speculative_cost({"model": "yuhuili/EAGLE3"}, TARGET, load(), (fact,))
    assert part
    assert (part.low, part.bytes) == (None, 850_000_000 + 16 * 4 * 128_256 * 4)
    assert "0.8 GiB of weights" in part.detail


def test_a_draft_outside_the_catalogue_is_sized_by_what_the_hub_said() -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 128_256,
        "intermediate_size": 1024, "max_position_embeddings": 8192,
    }  # fmt: skip
    fact = HubFact("acme/draft", "found", "open", config, 2 * GIB)
    part, why = speculative_cost({"model": "acme/draft", "num_speculative_tokens": 4}, TARGET, load(), (fact,))
    assert part, why
    assert part.kv_token == 4 * 2 * 64 * 2 * 2
    assert part.bytes > 2 * GIB


def test_drafts_are_among_what_is_looked_at_on_the_hub() -> None:
    config = {"model": "acme/draft", "num_speculative_tokens": 4}
    for vllm in ({"speculative": config}, {"args": ["--speculative-config", json.dumps(config)]}):
        assert candidates(facts(), load(), spec(vllm=vllm)) == (REPO, "acme/draft")
    laid = {"engines": {"llama": {"vllm": {"speculative": config}}, "x": 3, "y": {"vllm": []}}}
    assert candidates(facts(), load(), None, laid) == ("acme/draft",)
    assert drafts([None, {"model": "/models/draft"}, {"model": 3}, {"method": "ngram"}]) == []


def test_what_nobody_knows_is_said_and_not_counted_as_nothing() -> None:
    part, why = speculative_cost({"model": "nobody/knows"}, TARGET)
    assert part is None
    assert "nobody/knows is not known" in why
    found = sums(vllm={"speculative": {"model": "nobody/knows", "num_speculative_tokens": 4}})
    assert any("engine llama: speculative decoding" in line for line in found.unknown)


@pytest.mark.parametrize("tokens", [None, "many", -3, 0, True, 2.5])
def test_odd_numbers_of_tokens_do_not_stop_the_arithmetic(tokens: Any) -> None:
    part, _ = speculative_cost({"method": "ngram", "num_speculative_tokens": tokens}, TARGET)
    assert part
    assert part.bytes == 16 * 4 * 128_256 * 4


def test_the_proof_counts_a_draft_model_and_prints_it() -> None:
    bare = sums(gpu_memory_utilization=0.92)
    with_draft = sums(gpu_memory_utilization=0.92, vllm={"speculative": {"model": DRAFT, "num_speculative_tokens": 4}})
    assert not bare.problems
    assert "needs" in with_draft.problems[0]
    said = with_draft.report()
    assert "drafts 2." in said
    assert f"llama: speculative decoding with {DRAFT}: weights 2.3 GiB, 32 KiB of KV cache more per token" in said
    own = ["--speculative-config", f'{{"model": "{DRAFT}", "num_speculative_tokens": 4}}']
    assert sums(gpu_memory_utilization=0.92, vllm={"args": own}).problems == with_draft.problems


def test_the_proof_counts_lora_slots_and_prints_them() -> None:
    said = sums(adapters={"support": "a/b"}).report()
    assert "llama: LoRA: 1 adapter, rank 16, 0.1 GiB" in said
    assert "LoRA 0.1 GiB" in said
    more = sums(adapters={"support": "a/b"}, vllm={"args": ["--max-loras", "4", "--max-lora-rank", "64"]}).report()
    assert "llama: LoRA: 1 adapter in 4 slots, rank 64, 1.4 GiB" in more
    own = sums(vllm={"args": ["--enable-lora", "--lora-modules", "x=/x", "y=/y", "--max-loras", "2"]}).report()
    assert "llama: LoRA: 2 adapters, rank 16, 0.2 GiB" in own
    assert "LoRA" not in sums(vllm={"args": ["--no-enable-lora"]}).report()


def test_parts_stand_in_the_bar() -> None:
    ask = replace(TARGET, parts=(Part("drafts", 4 * GIB),))
    found = sums(adapters={"support": "a/b"}).budgets[0]
    drawn = bar(replace(found, shares=(share_of(ask, found.total, 2 * GIB, 0.95),)))
    assert "llll" in drawn
    assert "l LoRA and drafts 4.0 GiB" in drawn


def test_a_fitted_share_leaves_room_for_the_parts() -> None:
    plain = fit(replace(TARGET, max_model_len=4096), 24 * GIB, 24 * GIB)
    laden = fit(replace(TARGET, max_model_len=4096, parts=(Part("drafts", 2 * GIB),)), 24 * GIB, 24 * GIB)
    assert plain
    assert laden
    assert plain.kv - laden.kv == 2 * GIB
    assert laden.needed <= laden.requested


def test_without_chunked_prefill_a_whole_prompt_is_one_step() -> None:
    whole = replace(TARGET, chunked=False)
    assert whole.step_tokens(24 * GIB) == 32768
    assert TARGET.step_tokens(24 * GIB) == 2048
    assert whole.activations(24 * GIB) - TARGET.activations(24 * GIB) > GIB
    (said,) = step_notes(whole, 24 * GIB, None)
    assert "without chunked prefill: 32768 tokens a step instead of 2048" in said
    assert step_notes(TARGET, 24 * GIB, None) == ()
    (less,) = step_notes(replace(TARGET, batched_tokens=512), 24 * GIB, 512)
    assert "less for activations" in less


def test_the_proof_counts_larger_steps_and_prints_them() -> None:
    usual = sums().budgets[0].shares[0].activations
    off = sums(vllm={"chunked_prefill": False})
    assert off.budgets[0].shares[0].activations > usual + 100 * MIB
    assert "llama: without chunked prefill: 8192 tokens a step instead of 2048" in off.report()
    assert sums(vllm={"args": ["--no-enable-chunked-prefill"]}).budgets == off.budgets
    large = sums(max_num_batched_tokens=16384)
    assert "llama: max_num_batched_tokens 16384: 16384 tokens a step instead of 2048" in large.report()
    assert sums(vllm={"args": ["--max-num-batched-tokens", "16K"]}).budgets == large.budgets


def test_steps_that_vllm_refuses_are_no_plan() -> None:
    assert refusals("llama", replace(TARGET, chunked=False), 2048)
    assert refusals("llama", TARGET, 2048) == []
    assert refusals("llama", replace(TARGET, chunked=False), None) == []
    found = sums(max_num_batched_tokens=8, vllm={"chunked_prefill": False})
    assert len(found.refused) == 2
    assert "must be at least max_model_len (8192)" in found.problems[0]
    assert "must be at least max_num_seqs (16)" in found.problems[1]


def test_a_proposal_makes_room_for_what_is_laid_over_it() -> None:
    # Cut to the bone: weights, cache, activations and graphs fill the share.
    base = sums().budgets[0].shares[0]
    tight = -(-base.needed * 1000 // (24 * GIB)) / 1000
    over = {"vllm": {"speculative": {"model": DRAFT, "num_speculative_tokens": 4}}}
    one = spec(gpu_memory_utilization=tight, **over)
    assert proof(one, facts(), load()).problems
    roomy = settled(one, facts(48 * GIB), load(), {})
    assert roomy.engines["llama"].kv_cache == 4 * GIB
    cut = settled(one, facts(), load(), {})
    assert proof(cut, facts(), load()).problems == []
    assert cut.engines["llama"].gpu_memory_utilization > tight
    assert cut.engines["llama"].kv_cache < 4 * GIB


def test_what_the_user_fixed_stays() -> None:
    over = {"vllm": {"speculative": {"model": DRAFT, "num_speculative_tokens": 4}}}
    one = spec(gpu_memory_utilization=0.8, **over)
    laid = {"engines": {"llama": {"kv_cache": "4GiB", "gpu_memory_utilization": 0.8}}}
    kept = settled(one, facts(), load(), laid).engines["llama"]
    assert (kept.kv_cache, kept.gpu_memory_utilization) == (4 * GIB, 0.8)
    assert settled(one, facts(40 * GIB), load(), laid) == one


def test_nothing_is_changed_where_everything_fits() -> None:
    one = spec()
    assert settled(one, facts(), load(), {}) == one


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "name a method"), ({"method": ""}, "name a method"), ({"method": 7}, "method should be text"),
        ({"method": "ngram"}, "ngram needs num_speculative_tokens"), ({"model": DRAFT}, "draft_model needs num_spec"),
        ({"method": "ngram", "num_speculative_tokens": 0}, "above 0"), ({"method": "mtp", "num_speculative_tokens": "3"}, "whole"),
        ({"method": "draft_model", "num_speculative_tokens": 3}, "needs a model"),
    ],
)  # fmt: skip
def test_a_speculation_that_vllm_would_refuse_is_refused_with_its_path(config: dict[str, Any], told: str) -> None:
    (found,) = flagcheck.problems(spec(vllm={"speculative": config}))
    assert found.startswith("engines/llama/vllm: speculative: ")
    assert told in found


@pytest.mark.parametrize(
    "config", [{"method": "mtp"}, {"method": "suffix"}, {"method": "ngram", "num_speculative_tokens": 4},
               {"model": "x/eagle3-head"}, {"model": DRAFT, "num_speculative_tokens": 4}],
)  # fmt: skip
def test_a_speculation_that_vllm_takes_is_taken(config: dict[str, Any]) -> None:
    assert flagcheck.problems(spec(vllm={"speculative": config})) == []


def test_a_users_own_flag_is_checked_as_the_named_key_is() -> None:
    assert "above 0" in flagcheck.problems(spec(vllm={"args": [
        "--speculative-config", '{"method":"ngram","num_speculative_tokens":-1}']}))[0]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "ram"),
    [
        ([], 6), (["--enable-sleep-mode", "--no-enable-sleep-mode"], 6), (["--cpu-offload-gb", "4"], 10),
        (["--kv-offloading-size=2.5"], 8.5), (["--cpu-offload-gb", "much"], 6), (["--cpu-offload-gb", "-3"], 6),
    ],
)  # fmt: skip
def test_what_a_users_flags_want_of_the_host(args: list[str], ram: float) -> None:
    assert wish(TARGET, args).ram == ram * GIB


def test_sleep_mode_keeps_the_weights_on_the_host() -> None:
    assert wish(TARGET, ["--enable-sleep-mode"]).ram == 6 * GIB + TARGET.weights()


def test_a_file_that_does_not_fit_is_told_what_would() -> None:
    over = {"vllm": {"speculative": {"model": DRAFT, "num_speculative_tokens": 4}}}
    one = spec(gpu_memory_utilization=0.85, **over)
    told = remedy(one, facts(), load())
    assert told.startswith("engines/llama: gpu_memory_utilization: 0.9")
    size = int(told.partition("kv_cache: ")[2].removesuffix("MiB"))
    share = float(told.partition("utilization: ")[2].partition(",")[0])
    assert proof(spec(gpu_memory_utilization=share, **{**over, "kv_cache": f"{size}MiB"}), facts(), load()).problems == []
    assert remedy(spec(), facts(), load()) == ""
    assert remedy(one, facts(16 * GIB), load()) == ""
