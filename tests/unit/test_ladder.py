"""Whatever is there: what is proposed starts, copies are placed soundly, and what stays says what would help."""

from __future__ import annotations

import dataclasses
import re

from decide_cases import facts
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decide.catalog import load
from orchestrator.decide.ladder import TRIED
from orchestrator.decide.propose import propose
from orchestrator.facts import Spread, Traffic

_MODELS = sorted({f"{entry.name}:{entry.tags[0]}" for entry in load().entries if entry.task != "embed"})
_SIZES = {f"{e.name}:{e.tags[0]}": round((e.numbers.params_b or 1) * 0.6e9) for e in load().entries}


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(_MODELS), min_size=1, max_size=3, unique=True),
    card=st.tuples(st.sampled_from([8, 12, 16, 24, 48, 80]), st.sampled_from([7.5, 8.0, 8.9, 9.0])),
    count=st.integers(1, 6),
    odd=st.lists(st.tuples(st.sampled_from([8, 24, 48]), st.sampled_from([7.5, 8.6])), max_size=2),
    quantization=st.sampled_from(["Q4_K_M", "Q8_0", "F16", "", "strange"]),
    peak=st.sampled_from([None, 0, 4, 60, 5000, float("nan"), float("inf")]),
    tokens=st.sampled_from([None, 1, 3000, 1e7]),
)
def test_whatever_is_there(names, card, count, odd, quantization, peak, tokens) -> None:
    cards = [card] * count + odd
    seen = facts({"gpus": [f"{size}GiB cc{capability}" for size, capability in cards], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"},
                  "models": [{"name": name, "size": _SIZES[name], "quantization": quantization} for name in names]})  # fmt: skip
    spread = Spread(100, p99=tokens)
    seen = dataclasses.replace(seen, traffic=Traffic(
        source="log", requests=1000, concurrency=Spread(100, peak=peak), prompt_tokens=spread, output_tokens=spread))  # fmt: skip
    found = propose("case", seen)
    assert not found.proof.problems, str(found.proof)
    for engine in found.spec.engines.values():
        assert len(engine.gpus) % engine.replicas == 0
        mine = {cards[int(gpu)] for gpu in engine.gpus}
        if engine.replicas > 1:
            assert len(mine) == 1, "copies are equal, and so are their cards"
            assert engine.tensor_parallel == 1
            assert not set(engine.gpus) & set(found.spec.ollama.gpus)
        if engine.quantization:
            assert min(capability for _, capability in mine) >= (8.0 if engine.quantization == "fp8" else 7.5)
    used = [gpu for engine in found.spec.engines.values() for gpu in engine.gpus]
    assert all(gpu in {str(at) for at in range(len(cards))} for gpu in used)
    for turns in found.handovers:
        assert turns.model in found.stays
        assert not any("does not fit" in line for line in (*turns.vllm, *turns.ollama))
        assert "hand-over" in found.stays[turns.model]
    for script in found.recipes:
        assert re.fullmatch(r"quantize-[a-z0-9-]+\.py", script)


def test_what_stays_for_want_of_room_says_what_was_tried_and_what_would_help() -> None:
    seen = facts({"gpus": ["12282MiB cc8.9"], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"},
                  "models": [{"name": "llama3.1:8b", "size": 4_920_753_328, "quantization": "Q4_K_M"}]})  # fmt: skip
    told = propose("case", seen).stays["llama3.1:8b"]
    assert TRIED in told
    assert "No smaller quantisation on Ollama's side makes enough room." in told


def test_a_quantisation_that_nobody_knows_is_no_reason_to_fail() -> None:
    seen = facts({"gpus": ["81920MiB cc9.0"], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"},
                  "models": [{"name": "llama3.3:70b", "size": 42_520_413_916, "quantization": "strange"}]})  # fmt: skip
    assert "No smaller quantisation" in propose("case", seen).stays["llama3.3:70b"]


def test_the_copies_in_ollama_are_sized_by_the_bits_that_the_catalogue_knows() -> None:
    seen = facts({"gpus": ["81920MiB cc9.0"], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"},
                  "models": [{"name": "llama3.3:70b", "size": 42_520_413_916, "quantization": "Q4_K_M"}]})  # fmt: skip
    said = re.search(r"copies at (\w+) \(llama3.3:70b ([0-9.]+) GiB instead of 39.6 GiB", propose("case", seen).stays["llama3.3:70b"])
    assert said
    bits = load().quants
    assert float(said[2]) == round(39.6 * bits[said[1]][0] / bits["Q4_K_M"][0], 1)


def test_a_shortened_context_names_the_smaller_copies_that_would_have_kept_it() -> None:
    """A smaller quantisation in Ollama comes before a shorter context, but only the user can take that rung."""
    case = {"gpus": ["24GiB cc8.9"], "env": {"OLLAMA_CONTEXT_LENGTH": "32768"},
            "models": [{"name": "llama3.1:8b", "size": 8_540_000_000, "quantization": "Q8_0"}]}  # fmt: skip
    found = propose("case", facts(case))
    assert found.spec.ollama.context_length < 32768
    said = next(note for note in found.notes if "would leave room for 32768 tokens" in note)
    assert re.search(r"copies at Q\w+ \(llama3.1:8b [0-9.]+ GiB instead of 8.0 GiB\)", said)
    quant = re.search(r"copies at (\w+)", said)[1]
    smaller = {**case["models"][0], "quantization": quant,
               "size": round(8_540_000_000 * load().quants[quant][0] / load().quants["Q8_0"][0])}  # fmt: skip
    assert propose("case", facts({**case, "models": [smaller]})).spec.ollama.context_length == 32768
    roomy = propose("case", facts({**case, "gpus": ["80GiB cc8.9"]}))
    assert not any("would leave room" in note for note in roomy.notes)
