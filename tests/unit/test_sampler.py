"""The sampler: /api/ps in Prometheus' words, whatever Ollama answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.adapter import alive, sampler
from tests.unit import standin_servers

PS = {"models": [
    {"name": "llama3.1:8b", "model": "llama3.1:8b", "size": 6_000, "size_vram": 4_500, "context_length": 8192,
     "expires_at": "2026-11-22T10:00:00.123456789+02:00"},
    {"name": "kept:latest", "size": 10, "size_vram": 10, "expires_at": "2318-03-04T05:06:07Z"},
]}  # fmt: skip


def read(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name.removeprefix("migrate_ollama_") + "".join(f" {v}" for v in sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


@contextmanager
def answering(answers: Callable[[str], bytes | int]) -> Iterator[str]:
    """An Ollama that answers with these bytes, or with a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers(self.path)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else b"")

        def log_message(self, *_: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_what_is_loaded_is_said_in_bytes_and_seconds() -> None:
    found = read(sampler.render(sampler.loaded(PS), "0.32.6", 0.25))
    assert found["up"] == found["info 0.32.6"] == 1
    assert (found["loaded_models"], found["sample_duration_seconds"]) == (2, 0.25)
    assert found["model_size_bytes llama3.1:8b"] == 6_000
    assert found["model_vram_bytes llama3.1:8b"] == 4_500
    assert found["model_spill_bytes llama3.1:8b"] == 1_500
    assert found["model_spill_bytes kept:latest"] == 0
    assert found["model_context_tokens llama3.1:8b"] == 8192
    assert found["model_expires_timestamp_seconds llama3.1:8b"] == pytest.approx(1795334400.123457, abs=1e-3)
    assert found["model_expires_timestamp_seconds kept:latest"] > 10**10


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("1970-01-01T00:00:10Z", 10.0), ("1970-01-01T00:00:10.5+00:00", 10.5), ("1969-12-31T22:00:10-02:00", 10.0),
        ("0001-01-01T00:00:00Z", -62135596800.0), ("9999-12-31T23:59:59.999Z", 253402300799.999), ("", None),
        (None, None), ("soon", None), ("2026-13-01T00:00:00Z", None), (5, None), ("0001-01-01T00:00:00+14:00", -62135647200.0),
        ("2026-01-01T00:00:00+99:00", None),
    ],
)  # fmt: skip
def test_times_of_any_form(text: Any, known: float | None) -> None:
    assert sampler.epoch(text) == known


@pytest.mark.parametrize("answer", [[], {}, {"models": 5}, {"models": None}, "x", None, 3])
def test_what_is_no_list_of_models_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="no list"):
        sampler.loaded(answer)


ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda one: st.lists(one, max_size=3))
MODEL = st.dictionaries(st.sampled_from(["name", "model", "size", "size_vram", "context_length", "expires_at"]), ODD) | ODD


@given(st.lists(MODEL, max_size=5))
def test_any_list_of_models_is_valid_text(models: list[Any]) -> None:
    found = sampler.loaded({"models": models})
    shown = read(sampler.render(found, 'a"b\\c\nd', 0.0))
    assert shown["loaded_models"] == len(found) == len({one.name for one in found})
    assert all(value >= 0 for key, value in shown.items() if "_bytes" in key)


def scrape(url: str) -> dict[str, float]:
    with sampler.server(sampler.Sampler(url), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            at = f"http://127.0.0.1:{server.server_port}"
            assert alive.answers("sampler", server.server_port) == 0
            assert httpx.get(f"{at}/other").status_code == 404
            answer = httpx.get(f"{at}/metrics", timeout=20)
        finally:
            server.shutdown()
            thread.join()
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.text)


@pytest.mark.parametrize(
    "answer", [500, 404, b"", b"no json", b"[]", b"\xff\xfe", b'{"models":"x"}', b'{"models":[' + b"1," * 600_000]
)
def test_an_ollama_that_answers_nonsense_is_down(answer: bytes | int) -> None:
    with answering(lambda _: answer) as url:
        assert scrape(url).keys() == {"up", "sample_duration_seconds"}
        assert scrape(url)["up"] == 0


def test_an_ollama_that_is_not_there_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    one = sampler.Sampler("http://127.0.0.1:1")
    assert read(one.text())["up"] == read(one.text())["up"] == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, "once, not at every scrape"
    assert json.loads(said[0])["event"] == "ollama"
    assert alive.answers("sampler", 1) == 1


def test_a_version_that_cannot_be_told_is_left_out() -> None:
    with answering(lambda path: json.dumps(PS).encode() if path == "/api/ps" else 500) as url:
        found = scrape(url)
    assert found["loaded_models"] == 2
    assert not [key for key in found if key.startswith("info")]


def test_the_stand_in_is_read_as_ollama_is(tmp_path: Any) -> None:
    server = standin_servers.ollama(tmp_path)
    try:
        before = scrape(server.url)
        name = json.loads(server.ask("GET", "/api/tags")[2])["models"][0]["name"]
        body = json.dumps({"model": name, "input": "x"}).encode()
        assert server.ask("POST", "/api/embed", body, {"content-type": "application/json"})[0] == 200
        after = scrape(server.url)
    finally:
        server.stop()
    assert (before["up"], before["loaded_models"]) == (1, 0)
    assert after["loaded_models"] == 1
    assert after[f"model_size_bytes {name}"] > 0
    assert after[f"model_spill_bytes {name}"] == after[f"model_size_bytes {name}"] - after[f"model_vram_bytes {name}"]
