"""The rungs of the ladder, in order: what is tried before what."""

from __future__ import annotations

import dataclasses

from orchestrator.decide.catalog import Numbers
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.options import LEAN_CONTEXT, Option, Site, options, ways
from orchestrator.decide.vram import GIB, Ask
from orchestrator.facts import Gpu

NUMBERS = Numbers(params_b=8.0, layers=32, heads=32, kv_heads=8, head_dim=128, hidden=4096, vocab=128256, kv_token=131072)
BARE = Mapping("x:8b", "acme/x-8b", "likely", numbers=NUMBERS)
WITH = dataclasses.replace(BARE, quantized=(("acme/x-8b-awq", "awq"),))


def _site(*gpus: tuple[int, float], home: tuple[str, ...] = ("0",)) -> Site:
    cards = {str(at): Gpu(str(at), f"u{at}", "card", size * GIB, size * GIB, cc) for at, (size, cc) in enumerate(gpus)}
    return Site(cards, home, lambda gpu: cards[gpu].total)


def _rungs(mapping: Mapping, site: Site, length: int = 32768) -> list[tuple[str, str, tuple[str, ...], str, bool]]:
    return [(one.scheme, one.flag, one.gpus, one.ask.kv_dtype, one.ask.eager)
            for one in options(mapping, site, length, 16)]  # fmt: skip


def test_another_gpu_comes_before_sharing_and_published_before_made_on_load() -> None:
    assert _rungs(BARE, _site((24, 8.9), (24, 8.9)))[:2] == [
        ("bf16", "", ("1",), "auto", False), ("fp8", "fp8", ("1",), "auto", False)]  # fmt: skip
    assert [one[:2] for one in _rungs(WITH, _site((24, 8.9), (24, 8.9)))][:2] == [("bf16", ""), ("awq", "")]
    assert all(flag == "" for _, flag, *_ in _rungs(WITH, _site((24, 8.9), (24, 8.9))))


def test_speed_is_given_up_only_at_a_short_context_and_the_cache_before_the_graphs() -> None:
    site = _site((24, 8.9))
    assert all(cache == "auto" and not eager for *_, cache, eager in _rungs(BARE, site, LEAN_CONTEXT + 1))
    last = list(options(BARE, site, LEAN_CONTEXT, 16))[-3:]
    assert [(one.ask.kv_dtype, one.ask.eager, one.ask.max_num_seqs) for one in last] == [
        ("fp8", False, 16), ("fp8", True, 16), ("fp8", True, 4)]  # fmt: skip
    assert _rungs(BARE, _site((24, 8.0)), LEAN_CONTEXT)[-1][3:] == ("auto", True)


def test_each_gpu_makes_what_it_can() -> None:
    made = {gpus: flag for _, flag, gpus, *_ in _rungs(BARE, _site((24, 7.5), (24, 8.6))) if flag and len(gpus) == 1}
    assert made == {("0",): "int8_per_channel_weight_only", ("1",): "fp8"}


def test_with_smaller_weights_as_a_start_what_is_made_on_load_is_kept() -> None:
    assert ways(BARE, None, "int4") == [
        ("acme/x-8b", "bf16", ""), ("acme/x-8b", "fp8", "fp8"), ("acme/x-8b", "int8", "int8_per_channel_weight_only")]  # fmt: skip
    assert [one[1] for one in ways(WITH, 8.9, "int4")] == ["awq"]
    assert [one[1] for one in ways(WITH, 8.9)] == ["bf16", "awq"]


def test_what_a_gpu_cannot_run_counts_as_not_published() -> None:
    blackwell = dataclasses.replace(BARE, quantized=(("acme/x-8b-nvfp4", "nvfp4"),))
    assert [one[1:] for one in ways(blackwell, 8.9)] == [("bf16", ""), ("fp8", "fp8")]
    assert [one[1:] for one in ways(blackwell, 10.0)] == [("bf16", ""), ("nvfp4", "")]


def test_what_loading_takes_lies_between_the_weights_and_the_whole_16_bit() -> None:
    ask = Ask("x", NUMBERS, scheme="fp8")
    whole = Ask("x", NUMBERS).weights()
    assert Option("r", "fp8", ("0",), ask).loading == ask.weights()
    layer = Option("r", "fp8", ("0",), ask, "fp8").loading
    assert ask.weights() + whole / 32 < layer < whole
    assert Option("r", "int8", ("0",), dataclasses.replace(ask, scheme="int8"), "int8_x").loading == whole
