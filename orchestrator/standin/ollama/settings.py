"""The environment that the server reads: Ollama's own variables and the stand-in's knobs (STANDIN_*)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.standin.ollama import golang

TIERS = ((47 * 1024**3, 262_144), (23 * 1024**3, 32_768))  # total VRAM in bytes, default context


@dataclass(frozen=True)
class Settings:
    """Times: `keep_alive` in nanoseconds (negative: for ever), the knobs in seconds."""

    host: str = "127.0.0.1"
    port: int = 11434
    num_parallel: int = 1
    max_loaded: int = 0
    max_queue: int = 512
    keep_alive: int = 300 * golang.SECOND
    context_length: int = 0
    load_s: float = 0.3
    token_s: float = 0.008
    prompt_s: float = 0.02
    backend: str = ""

    @property
    def loopback(self) -> bool:
        return self.host in {"127.0.0.1", "localhost", "::1"}

    def default_context(self, total_vram: int) -> int:
        if self.context_length:
            return self.context_length
        return next((context for least, context in TIERS if total_vram >= least), 4096)


def split_host(text: str) -> tuple[str, int]:
    """Return address and port of an OLLAMA_HOST value such as `0.0.0.0`, `:8080`, `http://h:1`."""
    scheme, separator, rest = text.strip().rpartition("://")
    default = {"http": 80, "https": 443}.get(scheme, 11434) if separator else 11434
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not colon:
        host, port = rest.rstrip("/"), ""
    return host.strip("[]") or "127.0.0.1", int(port) if port.isdigit() else default


def read(env: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; a number that is none falls back to its default, as in Ollama."""
    host, port = split_host(env.get("OLLAMA_HOST", ""))
    return Settings(
        host=host,
        port=port,
        num_parallel=max(1, _number(env, "OLLAMA_NUM_PARALLEL", 1)),
        max_loaded=_number(env, "OLLAMA_MAX_LOADED_MODELS", 0),
        max_queue=_number(env, "OLLAMA_MAX_QUEUE", 512),
        keep_alive=_keep_alive(env.get("OLLAMA_KEEP_ALIVE", "")),
        context_length=_number(env, "OLLAMA_CONTEXT_LENGTH", 0),
        load_s=float(env.get("STANDIN_LOAD_S", "0.3")),
        token_s=float(env.get("STANDIN_TOKEN_MS", "8")) / 1000,
        prompt_s=float(env.get("STANDIN_PROMPT_MS", "20")) / 1000,
        backend=env.get("STANDIN_BACKEND", "").rstrip("/"),
    )


def _number(env: Mapping[str, str], key: str, default: int) -> int:
    text = env.get(key, "").strip()
    return int(text) if text.isdigit() else default


def _keep_alive(text: str) -> int:
    if not text:
        return 300 * golang.SECOND
    try:
        return int(text) * golang.SECOND
    except ValueError:
        pass
    try:
        return golang.parse_duration(text)
    except ValueError:
        return 300 * golang.SECOND
