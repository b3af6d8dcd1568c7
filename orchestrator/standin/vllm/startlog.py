"""What the server writes: its log lines, its failures, its access log, its ids."""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any, NoReturn

# Failures that a test can ask for with STANDIN_FAIL, and their last lines.
FAILURES = {
    "gated": (
        "OSError: You are trying to access a gated repo.\n"
        "Make sure to have access to it at https://huggingface.co/{model}.\n"
        "403 Client Error. (Request ID: Root=1-0)\nCannot access gated repo for url "
        "https://huggingface.co/{model}/resolve/main/config.json."
    ),
    "not_found": (
        "OSError: {model} is not a local folder and is not a valid model identifier listed on "
        "'https://huggingface.co/models'"
    ),
    "offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
        "specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and "
        "downloads online, pass 'local_files_only=False' as input."
    ),
    "network": (
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
        "cached files."
    ),
    "no_weights": "RuntimeError: Cannot find any model weights with `{model}`",
    "arch": (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, Model architectures ['FoobarForCausalLM'] are not supported for now. Supported "
        "architectures: dict_keys(['LlamaForCausalLM', 'Qwen3ForCausalLM']) [type=value_error]"
    ),
    "oom": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of",
    "profiling": (
        "AssertionError: Error in memory profiling. Initial free memory {initial} GiB, current free memory {current} "
        "GiB. This happens when other processes sharing the same container release GPU memory while vLLM is profiling "
        "during initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own "
        "container."
    ),
    "no_gpu": "RuntimeError: Failed to infer device type",
}


class Failure(Exception):
    """The start failed; `engine` says in which process."""

    def __init__(self, text: str, *, engine: bool = False) -> None:
        super().__init__(text)
        self.engine = engine


def _line(process: str, level: str, where: str, text: str) -> None:
    moment = time.strftime("%m-%d %H:%M:%S", time.gmtime())
    sys.stderr.write(f"({process} pid={os.getpid()}) {level} {moment} [{where}] {text}\n")
    sys.stderr.flush()


def api(text: str, where: str = "api_utils.py:286", level: str = "INFO") -> None:
    _line("APIServer", level, where, text)


def engine(text: str, where: str = "core.py:133", level: str = "INFO") -> None:
    _line("EngineCore", level, where, text)


def worker(text: str, where: str = "gpu_model_runner.py:5100") -> None:
    _line("Worker", "INFO", where, text)


def fail(failure: Failure) -> NoReturn:
    """Write the failure as the real server does, root cause first, and exit with 1."""
    if failure.engine:
        engine("EngineCore failed to start.", "core.py:1510", "ERROR")
        for text in ["Traceback (most recent call last):", *str(failure).splitlines()]:
            engine(text, "core.py:1510", "ERROR")
    sys.stderr.write("Traceback (most recent call last):\n")
    tail = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    sys.stderr.write(f"RuntimeError: {tail}\n" if failure.engine else f"{failure}\n")
    raise SystemExit(1)


def announce() -> None:
    sys.stderr.write(f"INFO:     Started server process [{os.getpid()}]\n")
    sys.stderr.write("INFO:     Waiting for application startup.\nINFO:     Application startup complete.\n")
    sys.stderr.flush()


def access(client: tuple[str, int], method: str, path: str, status: int, phrase: str) -> None:
    """Write uvicorn's access line."""
    sys.stdout.write(f'INFO:     {client[0]}:{client[1]} - "{method} {path} HTTP/1.1" {status} {phrase}\n')
    sys.stdout.flush()


def identifier(prefix: str) -> str:
    return f"{prefix}{random.getrandbits(64):016x}"


def describe(value: Any) -> str:
    """Return a value as this release's validation errors print their input."""
    if isinstance(value, dict):
        return f"<dict of {len(value)} items>"
    if isinstance(value, list):
        return f"<list of {len(value)} items>"
    return str(value) if isinstance(value, str) else repr(value)
