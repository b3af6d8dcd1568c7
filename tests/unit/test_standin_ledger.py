"""Virtual GPUs: vLLM refuses what does not fit, Ollama spills, the dead give back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import standin_servers

from orchestrator.standin import nvidia_smi
from orchestrator.standin.ledger import EXPIRY_S, Ledger, parse_gpus, parse_size, visible
from orchestrator.standin.vllm import flags, startlog, startup, weights

GIB = 1024**3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_GPUS", "0:24GiB,1:24GiB")
    monkeypatch.setenv("STANDIN_START_S", "0")
    for name in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "STANDIN_FAIL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * GIB), ("512MiB", 512 * 1024**2), ("1000", 1000), ("1.5G", 3 * GIB // 2)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_devices_keep_their_identity() -> None:
    assert parse_gpus("0:1GiB") == parse_gpus("0:1GiB")
    assert parse_gpus("1:40GiB=NVIDIA A100")["1"]["name"] == "NVIDIA A100"


@pytest.mark.parametrize(
    ("env", "seen"),
    [
        ({}, ["0", "1"]),
        ({"NVIDIA_VISIBLE_DEVICES": "1"}, ["1"]),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
    ],
)
def test_a_container_sees_its_devices(env: dict[str, str], seen: list[str]) -> None:
    assert visible(["0", "1"], env) == seen


def test_what_is_taken_is_not_free_until_given_back(tmp_path: Path) -> None:
    now = [100.0]
    ours, theirs = (Ledger(tmp_path, owner, clock=lambda: now[0]) for owner in ("a", "b"))
    assert ours.allocate("0", 20 * GIB, "x") == 20 * GIB
    assert theirs.allocate("0", 20 * GIB, "y") == 4 * GIB
    assert [g.free for g in theirs.gpus()] == [0, 24 * GIB]
    ours.release("x")
    assert theirs.gpus()[0].free == 0, "a driver needs a moment"
    now[0] += 1.5
    assert theirs.gpus()[0].free == 20 * GIB
    ours.close()
    theirs.close()


def test_a_killed_owner_loses_its_memory(tmp_path: Path) -> None:
    now = [100.0]
    dead = Ledger(tmp_path, "dead", clock=lambda: now[0])
    dead._beating = True  # its heart does not beat
    dead.allocate("0", GIB, "x")
    now[0] += EXPIRY_S + 0.1
    assert Ledger(tmp_path, "other", clock=lambda: now[0]).gpus()[0].used == 0


def boot(ledger: Ledger, *argv: str) -> startup.Ready:
    return startup.boot(flags.parse(["serve", "meta-llama/Llama-3.1-8B-Instruct", *argv], {}), ledger)


def test_vllm_takes_its_share_and_says_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(tmp_path, "vllm")
    ready = boot(ledger, "--max-model-len", "8192", "--gpu-memory-utilization", "0.9")
    log = capsys.readouterr().err
    assert "GPU KV cache size: " in log
    assert f"{ready.cache_tokens:,} tokens, Maximum concurrency for 8,192 tokens per request" in log
    assert ledger.gpus()[0].used == pytest.approx(0.9 * 24 * GIB, rel=0.01)
    assert ledger.gpus()[1].used == 0
    ledger.close()


def test_vllm_refuses_when_too_little_is_free(tmp_path: Path) -> None:
    other, ledger = Ledger(tmp_path, "ollama"), Ledger(tmp_path, "vllm")
    other.allocate("0", 6 * GIB, "llama")
    with pytest.raises(startlog.Failure) as failure:
        boot(ledger, "--max-model-len", "8192", "--kv-cache-memory-bytes", "1G")
    assert str(failure.value) == (
        "ValueError: Free memory on device cuda:0 (18.00/24.00 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 22.08 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    )
    assert failure.value.engine
    other.close()


def test_vllm_refuses_a_context_that_the_cache_cannot_hold(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "vllm")
    with pytest.raises(startlog.Failure, match="the estimated maximum model length is 8192") as failure:
        boot(ledger, "--kv-cache-memory-bytes", "1G", "--max-model-len", "32768")
    assert "max seq len (32768), (4.00 GiB KV cache is needed" in str(failure.value)
    ledger.close()


def test_an_automatic_context_is_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(tmp_path, "vllm")
    assert boot(ledger, "--kv-cache-memory-bytes", "1G", "--max-model-len", "auto").max_model_len == 8192
    assert "Auto-fit max_model_len: reduced from 131072 to 8192" in capsys.readouterr().err
    ledger.close()


def test_neighbours_that_change_while_vllm_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, ledger = Ledger(tmp_path, "ollama"), Ledger(tmp_path, "vllm")
    other.allocate("0", 2 * GIB, "small")

    def meanwhile(change):
        loading = startup._load
        monkeypatch.setattr(startup, "_load", lambda *a: (change(), loading(*a)))

    share = ("--gpu-memory-utilization", "0.9", "--max-model-len", "1024", "--enforce-eager")
    meanwhile(lambda: other.release("small", now=True))
    with pytest.raises(startlog.Failure, match="AssertionError: Error in memory profiling"):
        boot(ledger, *share)
    ledger.close()
    monkeypatch.undo()
    monkeypatch.setenv("STANDIN_START_S", "0")
    monkeypatch.setenv("STANDIN_GPUS", "0:24GiB,1:24GiB")
    calm = Ledger(tmp_path, "vllm")
    whole = boot(calm, *share).cache_tokens
    calm.close()
    meanwhile(lambda: other.allocate("0", GIB, "more"))
    assert boot(calm, *share).cache_tokens == pytest.approx(whole - GIB / 131_072, abs=20)
    calm.close()
    other.close()


def test_weights_follow_the_name() -> None:
    assert weights.of("org/Llama-3.1-8B", None, {}).weights == pytest.approx(16e9, rel=0.01)
    assert weights.of("org/Llama-3.1-8B-AWQ", None, {}).weights < 6e9
    assert weights.of("org/Llama-3.3-70B", "fp8", {}).weights == pytest.approx(74e9, rel=0.01)


def test_ollama_spills_to_the_cpu_when_vllm_holds_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_GPUS", "0:24GiB")
    vllm, ours = Ledger(tmp_path / "gpus", "vllm"), Ledger(tmp_path / "gpus", "ollama")
    server = standin_servers.ollama(tmp_path / "models", ledger=ours)
    server.post("/api/generate", {"model": "llama3.1:8b"})
    whole = json.loads(server.ask("GET", "/api/ps")[2])["models"][0]
    assert whole["size_vram"] == whole["size"] > 4 * GIB
    vllm.allocate("0", 23 * GIB, "engine")
    server.post("/api/generate", {"model": "qwen3:0.6b", "keep_alive": -1})
    models = {m["name"]: m for m in json.loads(server.ask("GET", "/api/ps")[2])["models"]}
    assert models["qwen3:0.6b"]["size_vram"] < models["qwen3:0.6b"]["size"]
    server.stop()
    ours.close()
    vllm.close()


def test_nvidia_smi_answers_queries(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "x")
    ledger.allocate("1", GIB, "m")
    gpus = ledger.gpus()
    ask = "--query-gpu=index,memory.total,memory.free,memory.used,compute_cap"
    assert nvidia_smi.run([ask, "--format=csv,noheader,nounits"], gpus)[1] == (
        "0, 24576, 24576, 0, 8.9\n1, 24576, 23552, 1024, 8.9\n"
    )
    assert nvidia_smi.run(["-i", "1", "--query-gpu=memory.used", "--format=csv"], gpus) == (
        0,
        "memory.used [MiB]\n1024 MiB\n",
    )
    assert nvidia_smi.run(["-i", "7", ask], gpus) == (6, "No devices were found\n")
    assert nvidia_smi.run(["--query-gpu=nonsense"], gpus)[0] == 2
    assert "24576MiB" in nvidia_smi.run([], gpus)[1]
    ledger.close()
