"""The two logs of the real server: gin's access lines on stdout, slog lines on stderr."""

from __future__ import annotations

import os
import threading
import time

from orchestrator.standin.ollama import VERSION, golang
from orchestrator.standin.ollama.settings import Settings

STDOUT, STDERR = 1, 2  # whole lines in one write, from whatever thread
_lock = threading.Lock()
ORIGINS = "http://localhost https://localhost http://localhost:* https://localhost:* http://127.0.0.1 https://127.0.0.1"


def _emit(line: str, descriptor: int) -> None:
    with _lock:
        os.write(descriptor, f"{line}\n".encode())


def gin_line(status: int, elapsed_ns: int, client: str, method: str, path: str, epoch: float) -> str:
    """Return one access line in gin 1.10's format."""
    if elapsed_ns > 60 * golang.SECOND:
        elapsed_ns -= elapsed_ns % golang.SECOND
    moment = time.strftime("%Y/%m/%d - %H:%M:%S", time.gmtime(epoch))
    latency = golang.duration(elapsed_ns)
    return f"[GIN] {moment} | {status:3d} | {latency:>13} | {client:>15} | {method:<7}  {golang.quoted(path)}"


def access(status: int, elapsed_ns: int, client: str, method: str, path: str) -> None:
    _emit(gin_line(status, elapsed_ns, client, method, path, time.time()), STDOUT)


def note(source: str, message: str, level: str = "INFO", **fields: object) -> None:
    """Write one slog line."""
    moment = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // golang.SECOND))
    more = "".join(f" {k}={_value(v)}" for k, v in fields.items())
    text = golang.quoted(message) if " " in message else message
    milli = moment % golang.SECOND // 10**6
    _emit(f"time={stamp}.{milli:03d}Z level={level} source={source} msg={text}{more}", STDERR)


def plain(line: str) -> None:
    """Write a line of the inner runner, which has no prefix."""
    _emit(line, STDERR)


def _value(value: object) -> str:
    text = str(value)
    return golang.quoted(text) if not text or set(text) & set(' "=') else text


def size(count: int) -> str:
    """Return bytes as `23.5 GiB` or `0 B`."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def banner(settings: Settings, gpus: list[tuple[str, str, int, int]]) -> None:
    """Write what the real server writes at its start. `gpus`: id, name, total and free bytes."""
    env = {
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "LLAMA_ARG_FIT_TARGET": os.environ.get("LLAMA_ARG_FIT_TARGET", ""),
        "OLLAMA_CONTEXT_LENGTH": settings.context_length,
        "OLLAMA_DEBUG": "INFO",
        "OLLAMA_FLASH_ATTENTION": "false",
        "OLLAMA_GPU_OVERHEAD": os.environ.get("OLLAMA_GPU_OVERHEAD", "0"),
        "OLLAMA_HOST": f"http://{settings.host}:{settings.port}",
        "OLLAMA_KEEP_ALIVE": golang.duration(settings.keep_alive) if settings.keep_alive >= 0 else "2562047h47m16s",
        "OLLAMA_LOAD_TIMEOUT": "5m0s",
        "OLLAMA_MAX_LOADED_MODELS": settings.max_loaded,
        "OLLAMA_MAX_QUEUE": settings.max_queue,
        "OLLAMA_MODELS": os.environ.get("OLLAMA_MODELS", "/root/.ollama/models"),
        "OLLAMA_NOPRUNE": str(bool(os.environ.get("OLLAMA_NOPRUNE"))).lower(),
        "OLLAMA_NUM_PARALLEL": settings.num_parallel,
        "OLLAMA_ORIGINS": f"[{ORIGINS}]",
        "OLLAMA_SCHED_SPREAD": "false",
    }
    listing = " ".join(f"{k}:{v}" for k, v in env.items())
    note("routes.go:1951", "server config", env=f"map[{listing}]")
    note("routes.go:2008", f"Listening on {settings.host}:{settings.port} (version {VERSION})")
    note("runner.go:60", "discovering available GPUs...")
    for index, name, total, free in gpus:
        note(
            "types.go:42", "inference compute", id=index, library="CUDA", compute="8.9", name=f"CUDA{index}",
            description=name, driver="13.0", type="discrete", total=size(total), available=size(free),
        )  # fmt: skip
    if not gpus:
        memory = size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        note(
            "types.go:50", "inference compute", id="cpu", library="cpu", compute="", name="cpu", description="cpu",
            libdirs="ollama", driver="", pci_id="", type="", total=memory, available=memory,
        )  # fmt: skip
    total = sum(gpu[2] for gpu in gpus)
    note(
        "routes.go:2058", "vram-based default context", total_vram=size(total),
        default_num_ctx=settings.default_context(total),
    )  # fmt: skip
