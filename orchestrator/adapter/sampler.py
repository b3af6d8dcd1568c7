"""`python -m orchestrator.adapter.sampler`: what Ollama has loaded, as Prometheus reads it.

Ollama has no metrics of its own. Each scrape asks for /api/ps; how many requests wait in its queue nobody can ask.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from orchestrator.adapter.alive import answers
from orchestrator.adapter.respond import log

PORT = 9181
TIMEOUT_S = 4.0           # below the scrape's own
MOST_BYTES = 2**20
TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "migrate_ollama_"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # Ollama is a neighbour: through no proxy


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory; sizes in bytes. `expires` is in epoch seconds, None when Ollama does not say."""

    name: str
    size: int
    vram: int
    context: int
    expires: float | None

    @property
    def spill(self) -> int:
        """Bytes that lie in the machine's memory instead of a GPU's; without a GPU that is all of it."""
        return max(0, self.size - self.vram)


def loaded(answer: Any) -> list[Loaded]:
    """Return the models of an answer of /api/ps, one for each name; raises ValueError when it is none."""
    models = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        raise ValueError("no list of models")  # noqa: TRY004 - what came, not what was called
    found = {}
    for one in models:
        name = one.get("model") or one.get("name") if isinstance(one, dict) else None
        if isinstance(name, str) and name:
            size, vram, context = (_whole(one.get(key)) for key in ("size", "size_vram", "context_length"))
            found[name] = Loaded(name, size, vram, context, epoch(one.get("expires_at")))
    return [found[name] for name in sorted(found)]


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63 else 0


def epoch(text: Any) -> float | None:
    """Return RFC 3339 with any number of decimals in epoch seconds; None for anything else."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", str(text).strip())
    if not found:
        return None
    try:
        whole = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00"))
        return (whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() + float(found[2] or 0)
    except (ValueError, OverflowError):
        return None


def render(models: list[Loaded] | None, version: str, took: float) -> str:
    """Return the text of a scrape; `models` is None when Ollama did not answer, `took` in seconds."""
    return "".join(_lines(models, version, took))


def _lines(models: list[Loaded] | None, version: str, took: float) -> Iterator[str]:
    yield from _family("up", "1 when Ollama answered.", [({}, float(models is not None))])
    yield from _family("sample_duration_seconds", "How long Ollama took to answer.", [({}, took)])
    if models is None:
        return
    if version:
        yield from _family("info", "Which Ollama it is.", [({"version": version}, 1)])
    yield from _family("loaded_models", "Models in memory.", [({}, len(models))])
    for name, about in (
        ("model_size_bytes", "Memory of a loaded model."),
        ("model_vram_bytes", "What of it lies in GPUs."),
        ("model_spill_bytes", "What of it does not fit into GPUs; without a GPU that is all of it."),
        ("model_context_tokens", "Context for which it was loaded."),
        ("model_expires_timestamp_seconds", "When it will be unloaded; kept for ever is centuries ahead."),
    ):
        samples = [({"model": one.name}, _value(one, name)) for one in models]
        yield from _family(name, about, [(labels, value) for labels, value in samples if value is not None])


def _value(one: Loaded, name: str) -> float | None:
    return {
        "model_size_bytes": one.size, "model_vram_bytes": one.vram, "model_spill_bytes": one.spill,
        "model_context_tokens": one.context, "model_expires_timestamp_seconds": one.expires,
    }[name]  # fmt: skip


def _family(name: str, about: str, samples: list[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {about}\n# TYPE {PREFIX}{name} gauge\n"
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{PREFIX}{name}{'{' + shown + '}' if shown else ''} {value:.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Sampler:
    """Asks one Ollama, at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._lost = ""

    def text(self) -> str:
        """Return the text of a scrape. An Ollama that does not answer is said once in the log."""
        began = time.monotonic()
        try:
            models = loaded(self._ask("/api/ps"))
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._say(f"{type(error).__name__}: {error}")
            return render(None, "", time.monotonic() - began)
        took = time.monotonic() - began
        self._say("")
        return render(models, self._version(), took)

    def _version(self) -> str:
        try:
            answer = self._ask("/api/version")
        except (OSError, ValueError, http.client.HTTPException):
            return ""
        version = answer.get("version") if isinstance(answer, dict) else None
        return version if isinstance(version, str) else ""

    def _ask(self, path: str) -> Any:
        with _DIRECT.open(self._url + path, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read(MOST_BYTES))

    def _say(self, reason: str) -> None:
        if reason != self._lost:
            log(event="ollama", ok=not reason, reason=reason)
        self._lost = reason


def server(sampler: Sampler, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server, not yet running, of /metrics and /healthz."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            status, text = 404, "not found\n"
            if path == "/metrics":
                status, text = 200, sampler.text()
            elif path == "/healthz":
                status, text = 200, "ok\n"
            body = text.encode("utf-8", "replace")
            self.send_response(status)
            self.send_header("Content-Type", TYPE if path == "/metrics" else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:  # a line per scrape tells nothing
            return

    return ThreadingHTTPServer((host, port), Handler)


def main() -> int:
    """Serve until a signal ends it; there is nothing to finish first."""
    parser = argparse.ArgumentParser(prog="sampler", description=__doc__)
    parser.add_argument("--ollama", default="http://127.0.0.1:11434", help="address of the Ollama to ask")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--check", action="store_true", help="ask a running sampler for its health")
    given = parser.parse_args()
    if given.check:
        return answers("sampler", given.port)
    log(event="start", port=given.port, ollama=given.ollama)
    server(Sampler(given.ollama), given.host, given.port).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
