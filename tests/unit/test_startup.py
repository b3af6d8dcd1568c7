from pathlib import Path

import pytest
import yaml

from orchestrator.decide import startup

FOLDER = Path(__file__).parent / "data" / "vllm-logs"
EXPECTED = yaml.safe_load((FOLDER / "expected.yaml").read_text(encoding="utf-8"))
SIGNATURES = yaml.safe_load((FOLDER / "signatures.yaml").read_text(encoding="utf-8"))


def lines(name):
    return (FOLDER / name).read_text(encoding="utf-8", errors="replace").splitlines()


def test_every_recording_has_an_expectation():
    assert {path.name for path in FOLDER.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_recorded_logs_are_explained(name):
    found = startup.explain(lines(name), "big")
    if EXPECTED[name] is None:
        assert found is None
        return
    what, advice = EXPECTED[name]
    assert what in found.what
    assert advice in found.advice


@pytest.mark.parametrize("case", SIGNATURES, ids=[case["log"][:60] for case in SIGNATURES])
def test_failures_that_need_a_gpu_or_a_network_are_explained(case):
    found = startup.explain(case["log"].splitlines(), "big")
    if case["what"] is None:
        assert found is None
        return
    assert found is not None
    assert case["what"] in found.what
    assert case["advice"] in found.advice
    assert "NAME" not in found.advice
    assert "{" not in found.what + found.advice


@pytest.mark.parametrize("case", SIGNATURES, ids=[case["log"][:60] for case in SIGNATURES])
def test_a_failure_is_found_in_the_middle_of_a_log(case):
    noise = ["INFO 01-01 00:00:00 [x.py:1] something"] * 50
    alone = startup.explain(case["log"].splitlines(), "big")
    tail = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    assert startup.explain([*noise, *case["log"].splitlines(), *noise, tail], "big") == alone


def test_phases_of_a_whole_start_follow_each_other():
    seen, before = [], ""
    log = lines("start-ok.log")
    for count in range(1, len(log) + 1):
        now = startup.phase(log[:count])
        if now != before:
            seen.append(now)
        before = now
    order = ["configuration", "architecture", "engine process", "loading weights",
             "compiling", "KV cache", "engine ready", "port", "ready"]  # fmt: skip
    at = [next(i for i, text in enumerate(seen) if word in text) for word in order[:-1]]
    assert at == sorted(at), seen
    assert seen[-1] == "ready"


@pytest.mark.parametrize("line, text", [
    ("migrate: waiting for Ollama to load llama3.1:8b, 12 s", "waiting for Ollama to load llama3.1:8b, 12 s"),
    ("Loading safetensors checkpoint shards:  50% Completed | 2/4", "loading weights, 50 %"),
    ("INFO [x] Model loading took 14.99 GiB memory and 3.1 seconds", "weights loaded, 14.99 GiB"),
    ("INFO [x] Available KV cache memory: 4.20 GiB", "KV cache memory 4.20 GiB"),
    ("INFO [x] GPU KV cache size: 34,816 tokens", "KV cache for 34,816 tokens"),
    ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%", "capturing CUDA graphs"),
    ("INFO:     Application startup complete.", "ready"),
])  # fmt: skip
def test_the_phase_is_told_from_the_newest_telling_line(line, text):
    assert startup.phase(["Starting to load model x", line, "something else"]) == text


def test_nothing_said_yet():
    assert startup.phase([]) == ""
    assert startup.explain([], "big") is None
    assert startup.telling([]) == []


def test_the_root_cause_is_shown_and_not_the_line_that_points_to_it():
    shown = startup.telling(lines("fail-bad_flag.log"))
    assert any("larger than the available KV cache memory" in line for line in shown)
    assert not any("See root cause above" in line for line in shown)
    assert len(shown) <= 12
    assert all(len(line) <= 300 for line in shown)


def test_without_any_error_the_tail_is_shown():
    assert startup.telling([f"line {number}" for number in range(20)], most=3) == ["line 17", "line 18", "line 19"]
