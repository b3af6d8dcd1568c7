"""How many copies of an engine a load asks for."""

from __future__ import annotations

import dataclasses

import pytest
from decide_cases import facts

from orchestrator.decide.budget import proof
from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.enginespec import free_name
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.placement import place
from orchestrator.decide.replicas import Load, copies, held, load_of
from orchestrator.decide.vram import GIB, SPARE, Ask, share_of
from orchestrator.facts import Facts, Gpu, OllamaFacts, Spread, Traffic
from orchestrator.spec import parse_spec

NUMBERS = Numbers(params_b=8.0, layers=32, heads=32, kv_heads=8, head_dim=128, hidden=4096, vocab=128256, kv_token=131072)
ASK = Ask("x", NUMBERS, max_model_len=8192, max_num_seqs=64)
SHARE = share_of(ASK, 24 * GIB, 5 * GIB, 0.92)      # 40,960 tokens of cache


def _facts(**told) -> Facts:
    return Facts(OllamaFacts("http://x", "0.32.6"), traffic=Traffic(**told))


def test_the_cache_bounds_an_engine_before_max_num_seqs_does() -> None:
    assert held(SHARE, Load(tokens=4096))[0] in (9, 10)
    assert "99 % of requests" in held(SHARE, Load(tokens=4096))[1]
    assert "assumed" in held(SHARE, Load())[1]
    few = dataclasses.replace(SHARE, ask=dataclasses.replace(ASK, max_num_seqs=4))
    assert held(few, Load(tokens=100)) == (4, "max_num_seqs 4")
    assert held(SHARE, Load(tokens=10**9))[0] == 4, "a request is never longer than the context"


@pytest.mark.parametrize(("peak", "free", "count"), [
    (None, 3, 1), (5, 3, 1), (11, 3, 2), (25, 3, 3), (90, 3, 4), (90, 0, 1), (9000, 40, 16),
])  # fmt: skip
def test_as_many_as_the_peak_asks_for_and_gpus_are_there(peak: float | None, free: int, count: int) -> None:
    found, why = copies(SHARE, Load(peak, "measured", 4096), free)
    assert found == count
    assert bool(why) == (count > 1)
    assert ("would be needed" in why) == (peak in (90, 9000) and free > 0)


def test_nothing_split_or_embedding_is_copied() -> None:
    split = dataclasses.replace(SHARE, ask=dataclasses.replace(ASK, tensor_parallel=2))
    embeds = dataclasses.replace(SHARE, ask=dataclasses.replace(ASK, task="embed"))
    assert copies(split, Load(1000), 8)[0] == copies(embeds, Load(1000), 8)[0] == 1


def test_the_load_is_what_the_evidence_shows() -> None:
    seen = _facts(source="log", concurrency=Spread(10, peak=12), prompt_tokens=Spread(10, p99=900.5),
                  output_tokens=Spread(10, p99=100))  # fmt: skip
    assert load_of(seen) == Load(12, "measured", 1001)
    assert load_of(_facts(source="stated", concurrency=Spread(0, peak=8))) == Load(8, "stated", None)
    assert load_of(_facts()) == Load()
    assert load_of(_facts(concurrency=Spread(1, peak=float("nan")))).peak is None


def test_no_engine_bears_the_name_of_a_replica() -> None:
    assert free_name("llama", {"llama": {"replicas": 3}}) == "llama-4"
    assert free_name("llama-2", {"llama": {"replicas": 3}}) == "llama-2-2"
    assert free_name("llama", {"llama-2": {}}, 2) == "llama-3"
    assert free_name("llama", {"llama-2": {}}, 1) == "llama"


def test_the_proof_has_one_share_on_each_gpu_of_a_copy() -> None:
    spec = parse_spec("""
version: 1
name: case
engines: {llama: {repo: meta-llama/Llama-3.1-8B-Instruct, gpus: ["1", "2"], replicas: 2, kv_cache: 2GiB,
                  gpu_memory_utilization: 0.9}}
routes: {"llama3.1:8b": {engine: llama}}
ollama: {gpus: ["0"]}
""")
    seen = facts({"gpus": ["24GiB cc8.9"] * 3, "models": [{"name": "llama3.1:8b", "size": 4_920_753_328}]})
    sums = proof(spec, seen, load())
    shares = {one.gpu: one.shares for one in sums.budgets}
    assert [len(shares[gpu]) for gpu in ("1", "2")] == [1, 1]
    assert {share.ask.tensor_parallel for gpu in ("1", "2") for share in shares[gpu]} == {1}
    assert sums.problems == []
    sliced = dataclasses.replace(seen, gpus=tuple(dataclasses.replace(one, mig=True) for one in seen.gpus))
    assert proof(spec, sliced, load()).problems == [], "copies on MIG instances need not talk to each other"
    split = spec.model_copy(update={"engines": {"llama": spec.engines["llama"].model_copy(update={"replicas": 1})}})
    assert "MIG" in proof(split, sliced, load()).problems[0]


def test_room_that_is_needed_only_while_weights_load_is_not_given_to_a_neighbour() -> None:
    """int8 is made from 16-bit weights that lie on the GPU for a while: 15 GiB for 8 billion parameters."""
    large = Mapping("x:8b", "acme/x-8b", "likely", numbers=NUMBERS)
    few = dataclasses.replace(NUMBERS, params_b=0.3, hidden=1024, intermediate=4096, vocab=32000, kv_token=2**16)
    hungry = Mapping("y:300m", "acme/y-300m", "likely", numbers=few)
    cards = (Gpu("0", "u0", "card", 12 * GIB, 12 * GIB, 7.5), Gpu("1", "u1", "card", 21 * GIB, 21 * GIB, 7.5))
    found = place([large, hungry], cards, {}, 10 * GIB, context=4096, max_num_seqs=64)
    assert found.placed[0].flag == "int8_per_channel_weight_only"
    assert [one.gpus for one in found.placed] == [("1",), ("1",)]
    for one in found.placed:
        beside = sum(two.share.requested + two.share.ask.context() for two in found.placed if two is not one)
        assert beside + max(one.loading, one.share.requested + one.share.ask.context()) + SPARE <= 21 * GIB
