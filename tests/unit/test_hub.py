"""The Hub's door, against a real HTTP server that answers as the Hub does (X-Error-Code and all)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.clients.hub import Hub
from orchestrator.decide.catalog import load
from orchestrator.decide.hubfact import config_numbers, obstacles, usable
from orchestrator.observe.hub import look, probe

CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096,
          "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip
TOKEN = "hf_secretsecret"


class Site(BaseHTTPRequestHandler):
    """acme/open is public, acme/gated needs a licence that only TOKEN has accepted, acme/shut nobody's."""

    seen: list[tuple[str, str]]
    other = ""

    def do_GET(self) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.server.seen.append((self.path, token))
        repo = "/".join(self.path.replace("/api/models", "").split("/")[1:3])
        if token not in ("", TOKEN):
            self._say(401, {"error": "Invalid credentials in Authorization header"})
        elif repo == "acme/broken":
            self._say(200, raw=b"<html>" * 10)
        elif repo == "acme/down":
            self._say(503, {})
        elif repo == "acme/moved":
            self._say(302, {}, {"location": f"{self.server.other}/acme/open/resolve/main/config.json"})
        elif repo == "acme/loop":
            self._say(302, {}, {"location": self.path})
        elif repo == "acme/bare" and self.path.endswith("config.json"):
            self._say(404, {}, {"x-error-code": "EntryNotFound"})
        elif repo == "acme/shut" or (repo == "acme/gated" and not token):
            self._say(403 if token else 401, {}, {"x-error-code": "GatedRepo"})
        elif repo not in ("acme/open", "acme/gated", "acme/bare"):
            self._say(404 if token else 401, {}, {"x-error-code": "RepoNotFound"})
        elif "/tree/" in self.path:
            files = [("config.json", 600), ("model-1-of-2.safetensors", 10), ("model-2-of-2.safetensors", 7),
                     ("consolidated.safetensors", 17)]  # fmt: skip
            self._say(200, [{"type": "file", "path": path, "size": size} for path, size in files])
        else:
            self._say(200, CONFIG)

    def _say(self, status: int, body: object = None, headers: dict | None = None, raw: bytes | None = None) -> None:
        data = json.dumps(body).encode() if raw is None else raw
        self.send_response(status)
        for key, value in {**(headers or {}), "content-length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _serve() -> tuple[ThreadingHTTPServer, str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.seen, server.other = [], ""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def site() -> Iterator[tuple[ThreadingHTTPServer, str]]:
    server, url = _serve()
    yield server, url
    server.shutdown()
    server.server_close()


def _hub(url: str, tmp: Path, **env: str) -> Hub:
    return Hub({"HF_ENDPOINT": url + "/", "HF_HOME": str(tmp), **env})


@pytest.mark.parametrize(
    ("repo", "token", "state", "said"),
    [
        ("acme/open", "", "open", "open"),
        ("acme/open", TOKEN, "open", "open"),
        ("acme/gated", TOKEN, "gated, licence accepted", "gated, licence accepted"),
        ("acme/gated", "", "gated", "set HF_TOKEN"),
        ("acme/shut", TOKEN, "gated", "accept its licence at"),
        ("acme/nothing", "", "not found or private", "set HF_TOKEN if it is private"),
        ("acme/nothing", TOKEN, "not found or private", "check the name"),
        ("acme/open", "hf_wrong", "token refused", "refused HF_TOKEN"),
        ("acme/bare", "", "open", "without a config.json"),
        ("acme/down", "", "not checked", "503"),
        ("acme/loop", "", "not checked", "redirects"),
        ("no-owner", "", "not found or private", "owner/name"),
        ("acme/open?x=/y", "", "not found or private", ""),
    ],
)
def test_states(site, tmp_path: Path, repo: str, token: str, state: str, said: str) -> None:
    with _hub(site[1], tmp_path, HF_TOKEN=token) as hub:
        fact = probe(repo, hub)
    assert fact.state == state
    assert said in fact.said
    assert "secret" not in repr(fact)


def test_config_and_size_are_read(site, tmp_path: Path) -> None:
    with _hub(site[1], tmp_path) as hub:
        fact = probe("acme/open", hub)
    assert fact.config["num_hidden_layers"] == 32
    assert fact.weights == 17, "the weights that lie there twice count once"


def test_what_is_no_json_is_no_config(site, tmp_path: Path) -> None:
    with _hub(site[1], tmp_path) as hub:
        assert probe("acme/broken", hub).config == {}


def test_the_token_stays_with_its_host(site, tmp_path: Path) -> None:
    server, url = site
    other, elsewhere = _serve()
    server.other = elsewhere
    try:
        with _hub(url, tmp_path, HF_TOKEN=TOKEN) as hub:
            assert probe("acme/moved", hub).config
    finally:
        other.shutdown()
        other.server_close()
    assert {token for _, token in other.seen} == {""}
    assert TOKEN in {token for _, token in server.seen}


def _cached(tmp_path: Path, repo: str = "acme/open") -> None:
    root = tmp_path / "hub" / ("models--" + repo.replace("/", "--"))
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("abc\n")
    for name in ("old", "abc"):
        (root / "snapshots" / name).mkdir(parents=True)
        (root / "snapshots" / name / "config.json").write_text(json.dumps({"from": name}))
    (root / "snapshots" / "abc" / "model.safetensors").write_bytes(b"12345")


def test_offline_asks_nobody_and_reads_the_cache(site, tmp_path: Path) -> None:
    _cached(tmp_path)
    with _hub(site[1], tmp_path, HF_HUB_OFFLINE="1") as hub:
        facts = look(["acme/open", "acme/gated", "acme/open"], hub)
    assert site[0].seen == []
    assert list(facts) == ["acme/open", "acme/gated"]
    assert facts["acme/open"].config == {"from": "abc"}
    assert (facts["acme/open"].weights, facts["acme/open"].cached) == (5, True)
    assert facts["acme/gated"].said == "not checked (offline)"
    assert usable(facts["acme/gated"]), "what was not checked stands in nobody's way"


def test_nobody_at_home_falls_back_on_the_cache(tmp_path: Path) -> None:
    _cached(tmp_path)
    with _hub("http://127.0.0.1:1", tmp_path, HF_TOKEN=TOKEN) as hub:
        fact = probe("acme/open", hub)
        missing = probe("acme/other", hub)
    assert fact.state == missing.state == "not checked"
    assert fact.config == {"from": "abc"}
    assert "did not answer" in missing.said


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(b"123")
    with _hub("http://127.0.0.1:1", tmp_path) as hub:
        assert probe(str(tmp_path), hub).weights == 3
        assert probe(str(tmp_path / "none"), hub).state == "not found or private"
        (tmp_path / "config.json").write_text("{broken")
        assert "config.json" in probe(str(tmp_path), hub).said


@pytest.mark.parametrize("token", ["hf_line\nbreak", "hf_ünicode", "   "])
def test_a_token_that_cannot_be_sent_is_none(token: str) -> None:
    with Hub({"HF_TOKEN": token}) as hub:
        assert not hub.has_token


@pytest.mark.parametrize("endpoint", ["not a url", "http://", "http://[::1", "ftp://x"])
def test_an_endpoint_that_is_none_is_said(endpoint: str, tmp_path: Path) -> None:
    with _hub(endpoint, tmp_path) as hub:
        assert probe("acme/open", hub).state == "not checked"


def test_numbers_of_a_config() -> None:
    assert config_numbers(CONFIG).kv_token == 4 * 32 * 8 * 128
    nested = config_numbers({"vision_config": {}, "text_config": CONFIG})
    assert (nested.layers, nested.vision) == (32, True)
    latent = config_numbers({"num_hidden_layers": 27, "kv_lora_rank": 512, "qk_rope_head_dim": 64})
    assert latent.kv_token == 2 * 27 * 576
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 8
    assert config_numbers(CONFIG | {"layer_types": kinds}).kv_token == 4 * 8 * 8 * 128
    assert config_numbers({"num_hidden_layers": "x", "hidden_size": None, "text_config": []}).layers is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architectures": ["MllamaForConditionalGeneration"]}, "no longer has Mllama"),
        ({"quantization_config": {"quant_method": "gguf"}}, "gguf"),
        ({"quantization_config": {"load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "exl2"}}, "exl2"),
    ],
)
def test_obstacles(config: dict, words: str) -> None:
    assert words in "; ".join(obstacles(config, load()))


@pytest.mark.parametrize(
    "config", [CONFIG, {}, {"quantization_config": {"quant_method": "fp8"}}, {"quantization_config": "?"},
               {"architectures": None}],
)
def test_no_obstacle(config: dict) -> None:
    assert obstacles(config, load()) == ()
