"""The command line: flags that this release knows, and the words with which it refuses others."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.standin.ledger import parse_size

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
TEXT = (
    "--host", "--dtype", "--quantization", "--load-format", "--revision", "--tokenizer", "--tokenizer-mode",
    "--chat-template", "--chat-template-content-format", "--generation-config", "--override-generation-config",
    "--default-chat-template-kwargs", "--hf-token", "--download-dir", "--runner", "--convert", "--kv-cache-dtype",
    "--tool-call-parser", "--reasoning-parser", "--distributed-executor-backend", "--uvicorn-log-level",
    "--root-path", "--ssl-keyfile", "--ssl-certfile", "--limit-mm-per-prompt",
    "--speculative-config", "--compilation-config", "--hf-overrides", "--seed", "--hf-config-path",
    "--attention-backend", "--safetensors-load-strategy", "--config-format", "--kv-transfer-config",
    "--response-role",
)  # fmt: skip
NUMBERS = (
    "--port", "--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size", "--max-num-seqs",
    "--max-logprobs", "--max-num-queued-reqs", "--max-num-queued-tokens", "--block-size",
    "--num-gpu-blocks-override", "--max-lora-rank", "--max-loras", "--api-server-count", "--max-log-len",
)  # fmt: skip
FLOATS = (
    "--gpu-memory-utilization", "--cpu-offload-gb", "--kv-offloading-size", "--shutdown-timeout",
    "--sse-keep-alive-interval",
)  # fmt: skip
SWITCHES = (
    "--enforce-eager", "--trust-remote-code", "--enable-auto-tool-choice", "--enable-prefix-caching",
    "--enable-chunked-prefill", "--enable-sleep-mode", "--enable-lora", "--disable-log-stats",
    "--enable-log-requests", "--enable-server-load-tracking", "--enable-request-id-headers", "--async-scheduling",
    "--disable-uvicorn-access-log", "--enable-prompt-tokens-details", "--enable-force-include-usage",
    "--enable-scale-out", "--disable-custom-all-reduce", "--enable-expert-parallel", "--skip-tokenizer-init",
    "--language-model-only",
)  # fmt: skip
SHORT = {
    "--tensor-parallel-size": "-tp", "--pipeline-parallel-size": "-pp", "--data-parallel-size": "-dp",
    "--quantization": "-q",
}  # fmt: skip
MODEL_FLAG = (
    "With `vllm serve`, you should provide the model as a positional argument or in a config file instead of via "
    "the `--model` option. The `--model` option will be removed in a future version."
)


def human(text: str) -> int:
    """Return an integer for `8k` (decimal), `8K` (binary) or `8192`; `auto` is -1."""
    if text in {"auto", "-1"}:
        return -1
    factor = {"k": 1000, "m": 1000**2, "g": 1000**3}.get(text[-1:])
    return int(float(text[:-1]) * factor) if factor else parse_size(text)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="vllm")
    serve = top.add_subparsers(dest="command").add_parser("serve")
    serve.add_argument("model_tag", nargs="?")
    serve.add_argument("--model")
    serve.add_argument("--served-model-name", nargs="+")
    serve.add_argument("--lora-modules", nargs="+")
    serve.add_argument("--api-key", nargs="*")
    serve.add_argument("--allowed-origins", type=json.loads)
    serve.add_argument("--max-model-len", type=human)
    serve.add_argument("--max-num-batched-tokens", type=human)
    serve.add_argument("--kv-cache-memory-bytes", type=human)
    for names, kind in ((TEXT, str), (NUMBERS, int), (FLOATS, float)):
        for name in names:
            serve.add_argument(*filter(None, (name, SHORT.get(name))), type=kind)
    for name in SWITCHES:
        serve.add_argument(name, action=argparse.BooleanOptionalAction, default=None)
    return top


@dataclass(frozen=True)
class Options:
    """What was asked for. `given` holds the non-default arguments as the start-up log prints them."""

    model: str
    names: tuple[str, ...]
    given: dict[str, Any] = field(default_factory=dict)
    host: str = "0.0.0.0"
    port: int = 8000
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_queued_reqs: int | None = None
    utilization: float = 0.92
    kv_bytes: int | None = None
    tensor_parallel: int = 1
    dtype: str = "auto"
    quantization: str | None = None
    eager: bool = False
    pooling: bool = False
    auto_tools: bool = False
    tool_parser: str | None = None
    reasoning: bool = False
    thinking: bool = True
    load_tracking: bool = False
    keys: tuple[str, ...] = ()
    any_name: bool = False
    shutdown_s: float = 0.0
    defaults: dict[str, Any] = field(default_factory=dict)
    used_model_flag: bool = False
    modules: dict[str, str] = field(default_factory=dict)     # LoRA: name -> path

    def named(self, asked: Any) -> str:
        """Return the name that an answer bears: the LoRA module's that was asked for, else the first served one."""
        return asked if isinstance(asked, str) and asked in self.modules else self.names[0]


def parse(argv: Sequence[str], env: Mapping[str, str] = os.environ) -> Options:
    """Return the options; exits with 2 and argparse's words for a command line that cannot be read."""
    top = parser()
    parsed = top.parse_args([a.replace("_", "-") if a.startswith("--") and "=" not in a else a for a in argv])
    given = {k: v for k, v in vars(parsed).items() if v is not None and k != "command"}
    if parsed.command != "serve":
        top.error("the following arguments are required: command")
    used_flag = "model" in given and "model_tag" not in given
    model = given.get("model_tag") or given.get("model") or DEFAULT_MODEL
    if "model_tag" in given or used_flag:
        given = {"model_tag": model, **given, "model": model}
    keys = given.get("api_key") or ([env["VLLM_API_KEY"]] if env.get("VLLM_API_KEY") else [])
    template = json.loads(given.get("default_chat_template_kwargs") or "{}")
    return Options(
        model=model,
        names=tuple(given.get("served_model_name") or [model]),
        given={k: "***" if k in {"api_key", "hf_token"} else v for k, v in given.items()},
        host=given.get("host") or "0.0.0.0",
        port=given.get("port") or 8000,
        max_model_len=given.get("max_model_len"),
        max_num_seqs=given.get("max_num_seqs") or 256,
        max_num_queued_reqs=given.get("max_num_queued_reqs"),
        utilization=given.get("gpu_memory_utilization", 0.92),
        kv_bytes=given.get("kv_cache_memory_bytes"),
        tensor_parallel=given.get("tensor_parallel_size") or 1,
        dtype=given.get("dtype") or "auto",
        quantization=given.get("quantization"),
        eager=bool(given.get("enforce_eager")),
        pooling=given.get("runner") == "pooling" or (given.get("runner") is None and "embed" in model.lower()),
        auto_tools=bool(given.get("enable_auto_tool_choice")),
        tool_parser=given.get("tool_call_parser"),
        reasoning=bool(given.get("reasoning_parser")),
        thinking=template.get("enable_thinking", True),
        load_tracking=bool(given.get("enable_server_load_tracking")),
        keys=tuple(keys),
        any_name=env.get("VLLM_SKIP_MODEL_NAME_VALIDATION") == "1",
        shutdown_s=given.get("shutdown_timeout") or 0.0,
        defaults=json.loads(given.get("override_generation_config") or "{}"),
        used_model_flag=used_flag,
        modules=dict(_module(word) for word in given.get("lora_modules") or ()),
    )


def _module(word: str) -> tuple[str, str]:
    """Return (name, path) of NAME=PATH or of a JSON object."""
    if "=" in word and "," not in word:
        name, _, path = word.partition("=")
        return name, path
    found = json.loads(word)
    return str(found["name"]), str(found["path"])
