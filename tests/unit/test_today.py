"""What users need today: the longest context that anything shows, and room for twice the peak."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.decide import today
from orchestrator.facts import Facts, Gpu, Loaded, Model, OllamaContainer, OllamaFacts, Spread, Traffic

GPU = Gpu("0", "GPU-0", "x", 24 * 2**30, 24 * 2**30, 8.9)


def facts(*, env: dict[str, str] | None = None, num_ctx: object = None, loaded: int = 0, **traffic: object) -> Facts:
    container = OllamaContainer("ollama", "", "x", "127.0.0.1", 11434, env=env or {})
    models = (Model("m:1", parameters={} if num_ctx is None else {"num_ctx": num_ctx}),)
    now = (Loaded("m:1", 1, 1, loaded),) if loaded else ()
    return Facts(OllamaFacts("", "", models, now, container), (GPU,), traffic=Traffic(**traffic))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "size", "where"),
    [
        ({}, 32768, "default for 24 GiB"),
        ({"loaded": 4096}, 4096, "loaded now"),
        ({"loaded": 4096, "num_ctx": 16384}, 16384, "Modelfile of m:1"),
        ({"env": {"OLLAMA_CONTEXT_LENGTH": "8192"}, "loaded": 65536}, 8192, "OLLAMA_CONTEXT_LENGTH"),
        ({"env": {"OLLAMA_CONTEXT_LENGTH": "8192"}, "largest_context": 20000}, 20000, "log of requests"),
        ({"num_ctx": "many"}, 32768, "default"),
        ({"num_ctx": True}, 32768, "default"),
    ],
)
def test_the_longest_context_that_anything_shows_is_kept(seen: dict[str, object], size: int, where: str) -> None:
    found, told = today.context(facts(**seen))  # type: ignore[arg-type]
    assert (found, where in told) == (size, True), told


@pytest.mark.parametrize(("peak", "wanted"), [(1, 8), (4, 8), (5, 16), (20, 40), (200, 256), (9000, 256)])
def test_twice_the_peak_fits_at_once(peak: int, wanted: int) -> None:
    seen = facts(source="log", concurrency=Spread(100, peak=peak))
    assert today.sequences(seen)[0] == wanted


def test_where_the_number_comes_from_is_said() -> None:
    seen = facts(source="stated", concurrency=Spread(1, peak=6))
    assert "stated peak of 6" in today.sequences(seen)[1]
    unknown = dataclasses.replace(seen, traffic=Traffic())
    assert today.sequences(unknown) == (16, today.sequences(unknown)[1])
    assert "no evidence" in today.sequences(unknown)[1]


@pytest.mark.parametrize("peak", [400.0, 1e23, 1e308])
def test_a_peak_beyond_one_engine_is_not_said_to_be_held_twice(peak: float) -> None:
    size, told = today.sequences(facts(source="stated", concurrency=Spread(1, peak=peak)))
    assert size == 256
    assert told.startswith("max_num_seqs 256: the most that is proposed")
