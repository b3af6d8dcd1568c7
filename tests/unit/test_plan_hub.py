"""`migrate plan` and the Hub: one look, frozen into the facts; what was seen confirms, corrects or refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_stage import MODEL, migrate, ollama

from orchestrator.clients.hub import Hub
from orchestrator.commands import hub
from orchestrator.console import Console
from orchestrator.decide import evidence
from orchestrator.decide.candidates import candidates
from orchestrator.decide.catalog import load
from orchestrator.decide.propose import Proposal, propose
from orchestrator.decide.shared import map_models
from orchestrator.errors import MigrateError
from orchestrator.facts import Facts, Gpu, HubFact, Model, OllamaFacts
from orchestrator.observe import factsfile
from orchestrator.observe.hub import look

REPO = "meta-llama/Llama-3.1-8B-Instruct"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
          "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
          "intermediate_size": 14336, "max_position_embeddings": 131072}  # fmt: skip
LLAMA = Model("llama3.1:8b", size=4_920_000_000, quantization="Q4_K_M", capabilities=("completion",), architecture={
    "general.architecture": "llama", "general.parameter_count": 8_030_000_000, "llama.block_count": 32,
    "llama.embedding_length": 4096, "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
    "llama.context_length": 131072, "llama.vocab_size": 128256,
})  # fmt: skip
CATALOG = load()


class Site(BaseHTTPRequestHandler):
    """A Hub whose answers are `server.pages`: path -> (status, X-Error-Code, body); else RepoNotFound."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        if server.stop is not None:
            server.stop.wait(20)
        status, code, body = server.pages.get(self.path, (404, "RepoNotFound", b"{}"))
        self.send_response(status)
        if code:
            self.send_header("x-error-code", code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):     # who asked has stopped waiting: that is the case
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.pages, server.asked, server.stop = {}, [], None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    if server.stop is not None:
        server.stop.set()
    server.shutdown()
    server.server_close()


def serve(site: Any, repo: str, config: dict[str, Any] | bytes, size: int = 0, status: int = 200, code: str = "") -> None:
    body = config if isinstance(config, bytes) else json.dumps(config).encode()
    site.pages[f"/{repo}/resolve/main/config.json"] = (status, code, body)
    files = [{"type": "file", "path": "model.safetensors", "size": size}] if size else []
    site.pages[f"/api/models/{repo}/tree/main"] = (200, "", json.dumps(files).encode())


def world(*models: Model, total: float = 24) -> Facts:
    gpus = tuple(Gpu(str(at), f"GPU-{at}", "RTX 4090", round(total * 2**30), round(total * 2**30), 8.9) for at in (0, 1))
    return Facts(OllamaFacts("http://127.0.0.1:11434", "0.32.6", models=models or (LLAMA,)), gpus=gpus)


@pytest.fixture
def seen(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{site.server_address[1]}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return lambda facts, **flags: hub.seen(Console(mode="quiet"), facts, **flags)


def plan(facts: Facts, overrides: dict[str, Any] | None = None) -> Proposal:
    return propose("main", facts, overrides=overrides)


def test_a_config_that_agrees_confirms(site: Any, seen: Any) -> None:
    serve(site, REPO, CONFIG, 16_060_522_496)
    found = plan(seen(world()))
    assert found.spec.engines["llama3-1-8b"].repo == REPO
    assert "open" in found.engines["llama3-1-8b"]
    assert not found.spec.engines["llama3-1-8b"].gated


def test_a_gated_repository_without_a_token_says_what_to_do(site: Any, seen: Any) -> None:
    serve(site, REPO, b"{}", status=401, code="GatedRepo")
    facts = seen(world())
    found = plan(facts)
    assert found.spec.engines["llama3-1-8b"].gated
    assert any("accept its licence at" in one and "HF_TOKEN" in one for one in found.engines["llama3-1-8b"])
    assert any(REPO in line and "gated" in line for line in hub.lines(Console(mode="quiet"), found.spec, facts))


def test_a_repository_that_is_not_there_leaves_the_model_on_ollama(seen: Any) -> None:
    found = plan(seen(world()))
    assert not found.spec.engines
    assert f"{REPO} is not found or private" in found.stays["llama3.1:8b"]


def test_other_dimensions_are_refused_with_both_numbers(site: Any, seen: Any) -> None:
    serve(site, REPO, CONFIG | {"num_hidden_layers": 40})
    found = plan(seen(world()))
    assert not found.spec.engines
    assert "layers 32 here, 40 there" in found.stays["llama3.1:8b"]


@pytest.mark.parametrize(
    ("architecture", "said"),
    [("MllamaForConditionalGeneration", "no longer has"), ("NobodyKnowsForCausalLM", "does not list")],
)
def test_a_class_that_vllm_lacks_stays_on_ollama(site: Any, seen: Any, architecture: str, said: str) -> None:
    serve(site, REPO, CONFIG | {"architectures": [architecture]})
    found = plan(seen(world()))
    assert not found.spec.engines
    assert said in found.stays["llama3.1:8b"]


def _quantised() -> list[str]:
    return [repo for repo in candidates(world(), CATALOG) if repo != REPO]


def test_a_quantised_repository_is_what_its_config_says(site: Any, seen: Any) -> None:
    """On 12 GB the 16-bit weights do not fit; a repository called w4a16 that holds FP8 is planned as FP8."""
    serve(site, REPO, CONFIG, 16_060_522_496)
    names = _quantised()
    assert len(names) > 1
    fp8 = {"quantization_config": {"quant_method": "fp8"}}
    for name in names:
        serve(site, name, CONFIG | fp8, 9_000_000_000)
    found = plan(seen(world(total=16)))
    engine = found.spec.engines["llama3-1-8b"]
    reasons = " ".join(found.engines["llama3-1-8b"])
    assert "holds fp8 weights, not w4a16" in reasons
    assert engine.repo in names


def test_a_quantised_repository_that_is_gone_is_not_chosen(site: Any, seen: Any) -> None:
    serve(site, REPO, CONFIG, 16_060_522_496)
    names = _quantised()
    serve(site, names[-1], CONFIG | {"quantization_config": {"quant_method": "awq", "bits": 4}})
    facts = seen(world(total=16))
    found = plan(facts)
    used = {one.repo for one in found.spec.engines.values()}
    assert used <= {REPO, names[-1]}
    assert any("not found or private" in one for one in found.engines["llama3-1-8b"])


def test_a_silent_hub_costs_no_more_than_the_patience(site: Any, seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.stop = threading.Event()
    monkeypatch.setattr("orchestrator.observe.hub.PATIENCE_S", 0.2)
    facts = seen(world())
    assert {one.state for one in facts.hub} == {"not checked"}
    assert "did not answer in 0.2 s" in facts.hub[0].said
    assert plan(facts).spec.engines["llama3-1-8b"].repo == REPO


def test_what_answered_in_time_counts(tmp_path: Path) -> None:
    class Slow(Hub):
        def file(self, repo: str, name: str, *, anonymous: bool = False) -> Any:
            if repo == "acme/slow":
                time.sleep(2)
            return super().file(repo, name, anonymous=anonymous)

    with Slow({"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}) as door:
        found = look(["acme/slow", "acme/quick"], door, 0.5)
    assert "in 0.5 s" in found["acme/slow"].said
    assert "ConnectError" in found["acme/quick"].said


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"{}", "503"),
        (200, b"<html>log in</html>", "no config.json"),
        (404, b"<html>not here</html>", "with a page"),
        (200, b'{"a": "' + b"x" * 5_000_000 + b'"}', "no config.json"),
        (200, b"[" * 100_000, "no config.json"),
        (200, b"null", "no config.json"),
        (429, b"{}", "429"),
    ],
    ids=["5xx", "portal", "portal's 404", "huge", "deep", "null", "too many"],
)
def test_what_is_no_answer_is_not_checked(site: Any, seen: Any, status: int, body: bytes, said: str) -> None:
    serve(site, REPO, body, status=status)
    facts = seen(world())
    fact = next(one for one in facts.hub if one.repo == REPO)
    assert fact.state == "not checked"
    assert said in fact.said
    assert plan(facts).spec.engines["llama3-1-8b"].repo == REPO


def test_offline_asks_nobody(site: Any, seen: Any) -> None:
    facts = seen(world(), offline=True)
    assert site.asked == []
    assert {one.said for one in facts.hub} == {"not checked (offline)"}


def test_facts_carry_what_was_seen_and_the_plan_of_a_file_asks_nobody(site: Any, seen: Any, tmp_path: Path) -> None:
    serve(site, REPO, CONFIG | {"num_hidden_layers": 40, "auto_map": {"a": "b"}, "id2label": {"0": "x"}})
    facts = seen(world())
    asked = len(site.asked)
    (tmp_path / "facts.json").write_text(factsfile.dumps(facts))
    again = factsfile.load(tmp_path / "facts.json")
    assert again.hub == facts.hub
    assert "auto_map" not in next(one for one in again.hub if one.repo == REPO).config
    assert plan(again).stays == plan(facts).stays
    assert len(site.asked) == asked


def test_a_written_spec_is_looked_at_too(site: Any, seen: Any) -> None:
    serve(site, "acme/own", CONFIG | {"quantization_config": {"quant_method": "gguf"}})
    laid = {"engines": {"llama3-1-8b": {"repo": "acme/own"}}}
    plain = plan(world(), laid)
    facts = seen(world(), written=plain.spec)
    assert [one.repo for one in facts.hub] == ["acme/own"]
    with pytest.raises(MigrateError) as told:
        hub.require(plain.spec, facts, "migrate.yaml")
    assert "does not load gguf weights" in told.value.message
    hub.require(plain.spec, world(), "migrate.yaml")


def test_a_directory_is_looked_at_where_it_lies_on_the_host(seen: Any, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "own" / "model.safetensors").write_bytes(b"123")
    engine = {"repo": "/models/own", "volumes": [f"{tmp_path}:/models:ro"]}
    spec = plan(world(), {"engines": {"llama3-1-8b": engine}}).spec
    fact = seen(world(), written=spec).hub[0]
    assert (fact.repo, fact.state, fact.weights) == ("/models/own", "local directory", 3)
    named = plan(world(), {"engines": {"llama3-1-8b": engine | {"volumes": ["models:/models"]}}}).spec
    assert seen(world(), written=named).hub[0].said == "not checked (it lies in a volume)"


def test_nothing_is_asked_where_the_verdict_is_to_stay(site: Any, seen: Any) -> None:
    assert seen(replace(world(), traffic=evidence.stated(1)), force=False).hub == ()
    assert site.asked == []


def test_lines_say_what_the_facts_do_not_tell() -> None:
    spec = plan(world()).spec
    assert hub.lines(Console(mode="quiet"), spec, world()) == (f"{REPO}: not checked (the facts do not tell)",)


def test_real_sizes_count(site: Any, seen: Any) -> None:
    """Files of 20 GB where 16 were expected: the larger number is planned with, and said."""
    serve(site, REPO, CONFIG, 20_000_000_000)
    found = plan(seen(world()))
    assert any("its files hold 10B parameters, where 8.03B were expected" in one
               for one in found.engines.get("llama3-1-8b", (found.stays.get("llama3.1:8b", ""),)))  # fmt: skip


def test_another_name_of_a_repository_that_moved(seen: Any) -> None:
    entry = next(one for one in CATALOG.entries if one.aliases and one.supported and one.tried)
    model = Model(f"{entry.name}:{entry.tags[0]}", size=5_000_000_000)
    alias = HubFact(entry.aliases[0], "open", "open", {"architectures": [entry.architecture]})
    gone = HubFact(entry.repo, "not found or private", "not found or private: check the name")
    assert {entry.repo, entry.aliases[0]} <= set(candidates(world(model), CATALOG))
    found = map_models((model,), CATALOG, {}, (gone, alias))[model.name]
    assert found.repo == entry.aliases[0]


QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
QWEN_CONFIG = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 24,
               "hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
               "torch_dtype": "bfloat16", "tie_word_embeddings": True}  # fmt: skip


def test_the_command_asks_before_it_decides(site: Any, tmp_path: Path) -> None:
    """Confirmed, then offline, then refused; the same facts from a file come out as they were, without a question."""
    serve(site, QWEN, QWEN_CONFIG, 988_097_824)
    door = {"HF_ENDPOINT": f"http://127.0.0.1:{site.server_address[1]}", "HF_HOME": str(tmp_path / "cache")}
    with ollama() as url:
        words = ("--ollama", url, "--model", MODEL, "--cpu")
        told = migrate(tmp_path, "plan", "-f", "one/migrate.yaml", *words, **door)
        asked = len(site.asked)
        silent = migrate(tmp_path, "plan", "-f", "two/migrate.yaml", "--offline", *words, **door)
        assert len(site.asked) == asked
        serve(site, QWEN, QWEN_CONFIG | {"num_hidden_layers": 25})
        other = migrate(tmp_path, "plan", "-f", "three/migrate.yaml", "--json", *words, **door)
        kept = migrate(tmp_path, "facts", "--ollama", url, **door)
    assert told.returncode == 0, told.stderr
    assert f"on the Hub: {QWEN}: open" in told.stdout
    assert f"on the Hub: {QWEN}: not checked (offline)" in silent.stdout
    (tmp_path / "facts.json").write_text(kept.stdout)
    asked = len(site.asked)
    again = migrate(tmp_path, "plan", "-f", "four/migrate.yaml", "--json", "--facts", "facts.json", "--model", MODEL,
                    "--cpu", **door)  # fmt: skip
    assert len(site.asked) == asked
    for done in (other, again):
        assert "layers 24 here, 25 there" in done.stdout + done.stderr
