"""From the command line to a bound port: the log's phases, the memory arithmetic, the refusals.

The texts are those of the real release, so that whatever reads a start-up log can be tried on this one.
"""

from __future__ import annotations

import math
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from orchestrator.standin.ledger import Gpu, Ledger
from orchestrator.standin.vllm import VERSION, weights
from orchestrator.standin.vllm.flags import MODEL_FLAG, Options

GIB = 1024**3
OVERHEAD = int(0.6 * GIB)  # activations at their peak
GRAPHS = int(0.5 * GIB)  # CUDA graphs; --enforce-eager saves them
CPU_CACHE_GIB = 4
MORE = "Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
DOCS = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
PARSERS = "hermes", "llama3_json", "llama4_json", "mistral", "openai", "pythonic", "qwen3_coder", "qwen3_xml"
PHASES = 8

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
        "AssertionError: Error in memory profiling. Initial free memory 20.0 GiB, current free memory 22.0 GiB. "
        "This happens when other processes sharing the same container release GPU memory while vLLM is profiling "
        "during initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own "
        "container."
    ),
    "no_gpu": "RuntimeError: Failed to infer device type",
}


@dataclass(frozen=True)
class Ready:
    """What the engine was given: the longest request and the tokens that fit its cache."""

    max_model_len: int
    cache_tokens: int
    started: float


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


def validate(options: Options) -> None:
    """Refuse what the real server refuses before it prints anything else."""
    if options.auto_tools and not options.tool_parser:
        raise Failure("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
    if options.tool_parser and options.tool_parser not in PARSERS:
        chosen = ",".join(PARSERS)
        raise Failure(f"KeyError: 'invalid tool call parser: {options.tool_parser} (chose from {{ {chosen} }})'")


def banner(options: Options) -> None:
    if options.used_model_flag:
        sys.stderr.write(MODEL_FLAG + "\n")
    picture = ("", "       █     █     █▄   ▄█", f" ▄▄ ▄█ █     █     █ ▀▄▀ █  version {VERSION}")
    for text in (*picture, f"  █▄█▀ █     █     █     █  model   {options.model}", "   ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀", ""):
        api(text, "api_utils.py:347")
    api(f"non-default args: {options.given}")


def bind(options: Options) -> socket.socket:
    """Return a bound socket that does not listen yet: callers are refused until the engine is ready."""
    bound = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((options.host, options.port))
    except OSError as error:
        raise Failure(f"OSError: [Errno {error.errno}] {error.strerror}") from error
    return bound


def _invalid(config: str, text: str) -> Failure:
    return Failure(f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n{text}")


def configure(options: Options) -> int:
    """Check the configuration and return the longest request (tokens); -1 fits it to the cache."""
    told = os.environ.get("STANDIN_FAIL", "")
    if told and told not in {"no_weights", "oom", "profiling"}:
        raise Failure(FAILURES[told].format(model=options.model))
    if options.model.startswith(("/", "./")) and not os.path.exists(options.model):  # noqa: PTH110
        raise Failure(
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            f"'namespace/repo_name': '{options.model}'. Use `repo_type` argument if needed."
        )
    if options.quantization == "gguf":
        known = "['awq', 'auto_awq', 'fp8', 'gptq', 'gptq_marlin', 'awq_marlin', 'compressed-tensors', 'mxfp4']"
        text = f"  Value error, Unknown quantization method: gguf. Must be one of {known}. [type=value_error]"
        raise _invalid("ModelConfig", text)
    if not 0 < options.utilization <= 1:
        side = "less than or equal to 1" if options.utilization > 1 else "greater than 0"
        text = f"gpu_memory_utilization\n  Input should be {side} [input_value={options.utilization}, input_type=float]"
        raise _invalid("CacheConfig", text)
    derived = weights.of(options.model, options.quantization).context
    wanted = options.max_model_len
    if wanted is not None and wanted > derived:
        text = (
            f"  Value error, User-specified max_model_len ({wanted}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json). [type=value_error]"
        )
        raise _invalid("ModelConfig", text)
    api("Resolved architecture: LlamaForCausalLM", "model.py:733")
    api(f"Using max model len {derived if wanted in (None, -1) else wanted}", "model.py:2152")
    return derived if wanted is None else wanted


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def reserve(options: Options, ledger: Ledger) -> list[Gpu]:
    """Check every device's free memory against the share asked for, and return the devices."""
    gpus = ledger.mine()
    if not gpus:
        raise Failure(FAILURES["no_gpu"])
    if options.tensor_parallel > len(gpus):
        raise Failure(
            f"ValueError: World size ({options.tensor_parallel}) is larger than the number of available GPUs "
            f"({len(gpus)}) in this node."
        )
    chosen = gpus[: options.tensor_parallel]
    for rank, gpu in enumerate(chosen):
        requested = math.ceil(gpu.total * options.utilization)
        if gpu.free < requested:
            raise Failure(
                f"ValueError: Free memory on device cuda:{rank} ({_gib(gpu.free)}/{_gib(gpu.total)} GiB) on startup is "
                f"less than desired GPU memory utilization ({options.utilization}, {_gib(requested)} GiB). Decrease "
                "GPU memory utilization or reduce GPU memory used by other processes.",
                engine=True,
            )
    return chosen


def cache_bytes(options: Options, total: int, loaded: int) -> int:
    """Return what is left for the cache on one device with `total` bytes and weights of `loaded` bytes."""
    if options.kv_bytes is not None:
        return options.kv_bytes
    graphs = 0 if options.eager else GRAPHS
    return math.ceil(total * options.utilization) - loaded - OVERHEAD - graphs


def fit(available: int, token: int, wanted: int) -> int:
    """Return the longest request that the cache holds, or raise what the real server says."""
    if available <= 0:
        raise Failure(f"ValueError: No available memory for the cache blocks. {MORE} {DOCS}", engine=True)
    longest = available // token // 16 * 16
    if wanted == -1:
        return longest
    if longest < wanted:
        raise Failure(
            f"ValueError: To serve at least one request with the model's max seq len ({wanted}), "
            f"({_gib(wanted * token)} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({_gib(available)} GiB). Based on the available memory, the estimated maximum model length is {longest}. "
            f"{MORE} {DOCS}",
            engine=True,
        )
    return wanted


def _load(options: Options, pause: Callable[[], None]) -> None:
    """Write the phases of loading weights."""
    worker(f"Starting to load model {options.model}...")
    pause()
    if os.environ.get("STANDIN_FAIL") in {"no_weights", "oom"}:
        raise Failure(FAILURES[os.environ["STANDIN_FAIL"]].format(model=options.model), engine=True)
    for percent in (0, 50, 100):
        sys.stderr.write(f"\nLoading safetensors checkpoint shards: {percent:3d}% Completed | {percent // 50}/2\n")
        pause()
    worker("Loading weights took 0.42 seconds", "default_loader.py:501")


def _compile(options: Options, pause: Callable[[], None]) -> None:
    if options.eager:
        return
    worker("Using cache directory: /root/.cache/vllm/torch_compile_cache/0 for vLLM's torch.compile", "backends.py:900")
    worker("Dynamo bytecode transform time: 3.10 s", "backends.py:960")
    pause()
    worker("Compiling a graph for compile range (1, 2048) takes 4.20 s", "backends.py:390")
    pause()


def boot(options: Options, ledger: Ledger | None) -> Ready:
    """Start the pretended engine: takes STANDIN_START_S seconds (2 by default), holds memory in the ledger."""
    seconds = float(os.environ.get("STANDIN_START_S", "2"))
    began = time.monotonic()

    def pause() -> None:
        time.sleep(seconds / PHASES)

    wanted = configure(options)
    pause()
    config = f"model='{options.model}', dtype={options.dtype}, max_seq_len={wanted}"
    engine(f"Initializing a V1 LLM engine (v{VERSION}) with config: {config}")
    facts = weights.of(options.model, options.quantization)
    ranks = options.tensor_parallel
    if ledger is None:
        _load(options, pause)
        _compile(options, pause)
        available = int(float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GIB)) * GIB)
        longest = fit(available, facts.token, wanted)
        return _finish(options, "CPU", available // facts.token, longest, began)
    gpus = reserve(options, ledger)
    each = facts.weights // ranks
    for rank, gpu in enumerate(gpus):
        if each + OVERHEAD > ledger.allocate(gpu.index, each + OVERHEAD, f"rank{rank}"):
            raise Failure(
                "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory "
                "for weights, increasing --tensor-parallel-size, or using --quantization.",
                engine=True,
            )
    _load(options, pause)
    worker(f"Model loading took {_gib(each)} GiB memory and 1.20 seconds")
    _compile(options, pause)
    if os.environ.get("STANDIN_FAIL") == "profiling":
        raise Failure(FAILURES["profiling"], engine=True)
    available = min(cache_bytes(options, gpu.total, each) for gpu in gpus)
    worker(f"Available KV cache memory: {_gib(available)} GiB", "gpu_worker.py:760")
    token = max(1, facts.token // ranks)
    longest = fit(available, token, wanted)
    if wanted == -1 and longest < facts.context:
        engine(
            f"Auto-fit max_model_len: reduced from {facts.context} to {longest} to fit in available KV cache memory "
            f"({_gib(available)} GiB GPU)",
            "kv_cache_utils.py:2477",
        )
    for rank, gpu in enumerate(gpus):
        ledger.allocate(gpu.index, available + (0 if options.eager else GRAPHS), f"cache{rank}")
    return _finish(options, "GPU", available // token, min(longest, facts.context), began)


def _finish(options: Options, kind: str, tokens: int, longest: int, began: float) -> Ready:
    ratio = tokens / longest
    most = f"Maximum concurrency for {longest:,} tokens per request: {ratio:.2f}x"
    engine(
        f"{kind} KV cache size: {tokens:,} tokens, {most}",
        "kv_cache_utils.py:2327",
    )
    if kind == "GPU" and not options.eager:
        worker("Graph capturing finished in 3 secs, took 0.50 GiB", "gpu_model_runner.py:6100")
    took = time.monotonic() - began
    engine(f"init engine (profile, create kv cache, warmup model) took {took:.2f} s", "core.py:402")
    api(f"Supported tasks: ['{'embed' if options.pooling else 'generate'}']", "entry.py:136")
    api(f"Starting vLLM server on http://{options.host}:{options.port}", "entry.py:140")
    return Ready(longest, tokens, time.time())


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
