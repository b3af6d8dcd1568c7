"""The user's own flags reach the command line once, win over what is rendered, and count in the arithmetic."""

from __future__ import annotations

import json

import pytest

from orchestrator.decide import flagcheck
from orchestrator.decide.budget import proof
from orchestrator.decide.catalog import load
from orchestrator.decide.effective import effective
from orchestrator.errors import UsageError
from orchestrator.facts import Facts, Gpu, OllamaFacts
from orchestrator.rendering.engine import command, environment_of
from orchestrator.spec import Spec, parse_spec


def spec(**vllm: object) -> Spec:
    engine = {"repo": "Qwen/Qwen2.5-7B-Instruct", "gpus": ["0"], "max_model_len": 8192, "max_num_seqs": 16, "vllm": vllm}
    return parse_spec(json.dumps({"name": "one", "engines": {"e": engine}, "routes": {"qwen2.5:7b": {"engine": "e"}}}))


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (["--max-num-seqs", "7"], "max_num_seqs", 7),
        (["--max-num-seqs=7"], "max_num_seqs", 7),
        (["--max-model-len", "4k"], "max_model_len", 4000),
        (["--max-model-len", "4K"], "max_model_len", 4096),
        (["--kv-cache-memory-bytes", "2G"], "kv_cache", 2**31),
        (["--kv-cache-dtype", "fp8_e5m2"], "kv_cache_dtype", "fp8"),
        (["--gpu-memory-utilization", "0.4"], "gpu_memory_utilization", 0.4),
        (["--enforce-eager"], "enforce_eager", True),
    ],
)
def test_own_flags_count_in_the_arithmetic(args: list[str], field: str, value: object) -> None:
    assert getattr(effective(spec(args=args).engines["e"]), field) == value


def test_what_cannot_be_read_changes_nothing() -> None:
    engine = spec(args=["--max-num-seqs", "many"]).engines["e"]
    assert effective(engine) == engine


def test_own_flags_are_on_the_command_line_once() -> None:
    words = command(spec(args=["--max-num-seqs", "7"], chunked_prefill=False, speculative={"method": "ngram"}), "e", None)
    assert words.count("--max-num-seqs") == 1
    assert words[words.index("--max-num-seqs") + 1] == "7"
    assert "--no-enable-chunked-prefill" in words
    assert json.loads(words[words.index("--speculative-config") + 1]) == {"method": "ngram"}


def test_own_variables_win() -> None:
    one = spec(env={"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "200"})
    assert environment_of(one, one.engines["e"])["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "200"


def test_everything_that_is_refused_is_told_at_once_with_its_path() -> None:
    bad = spec(args=["--max-num-seq", "7", "--api-key", "hunter2", "--swap-space", "4", "#", "--port", "1"])
    with pytest.raises(UsageError) as told:
        flagcheck.require(bad, "migrate.yaml")
    lines = told.value.evidence.splitlines()
    assert len(lines) >= 5
    assert all(line.startswith("engines/e/vllm: ") and "Fix: " in line for line in lines)
    assert "hunter2" not in told.value.evidence


def test_what_vllm_reads_is_not_refused() -> None:
    flagcheck.require(spec(args=["--max-num-seqs", "7", "--enable-prefix-caching"]), "migrate.yaml")


def test_the_proof_counts_the_users_own_flags() -> None:
    gpu = Gpu("0", "GPU-0", "x", 80 * 2**30, 80 * 2**30, 9.0)
    found = proof(spec(args=["--gpu-memory-utilization", "0.9"]), Facts(OllamaFacts("", ""), (gpu,)), load())
    assert [share.utilization for share in found.budgets[0].shares] == [0.9]
