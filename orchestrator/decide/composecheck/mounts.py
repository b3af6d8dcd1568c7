"""What a vLLM service finds on its disk: the cache of weights, a local model, and the token for gated repositories."""

from __future__ import annotations

from orchestrator.decide.catalog import load
from orchestrator.decide.composecheck.commandline import command, line_of, model_of, open_ended
from orchestrator.decide.composecheck.ollama import covered, targets
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

_HOME = "/root/.cache/huggingface"
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")
_SMALL = 8 * 2**30      # bytes of host memory below which loading an engine is likely to be killed
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.of("vllm"):
        if service.partial or not isinstance(service.get("volumes"), (Seq, type(None))):
            continue
        line = read(command(service)[0])
        found += _cache(service, line) + _local(service, line) + _token(service, line) + _memory(service)
    return found


def _cache(service: Service, line: Line) -> list[Finding]:
    model, flag = model_of(line), line.get("--download-dir")
    if model.startswith(("/", ".")) or (not model and open_ended(service)):
        return []
    if service.get("user") or service.get("volumes_from"):
        return []
    home = service.env.get("HF_HOME") or service.env.get("HF_HUB_CACHE") or service.env.get("HUGGINGFACE_HUB_CACHE")
    path = (flag.value or "") if flag else home.text if home else _HOME
    mounts = targets(service)
    if "$" in path or not path.startswith("/"):
        return []
    if covered(path, mounts) or any(one.startswith(path.rstrip("/") + "/") for one in mounts):
        return _read_only(service, path)
    return [Finding("warning", service.name, f"nothing is mounted at {path}: each new container downloads the weights "
                    "again", f"add a volume, such as hf-cache:{path}", line=service.at("volumes"),
                    code="no-weights-volume")]  # fmt: skip


def _read_only(service: Service, path: str) -> list[Finding]:
    offline = service.env.get("HF_HUB_OFFLINE")
    if offline and offline.text.lower() in ("1", "true", "yes", "on"):
        return []
    said = service.get("volumes")
    for item, at in zip(said, said.lines, strict=True) if isinstance(said, Seq) else ():
        parts = item.split(":") if isinstance(item, str) else []
        short = len(parts) > 2 and "ro" in parts[-1].split(",") and covered(path, [parts[-2]])
        long = isinstance(item, Map) and item.get("read_only") is True and covered(path, [str(item.get("target"))])
        if short or long:
            return [Finding("warning", service.name, f"{path} is read-only: weights that are not there yet cannot be "
                            "downloaded", 'leave :ro out, or set HF_HUB_OFFLINE: "1" where all are there', line=at,
                            code="cache-read-only")]  # fmt: skip
    return []


def _local(service: Service, line: Line) -> list[Finding]:
    """A model that is named by its path must be mounted: vLLM's image holds none."""
    model = model_of(line)
    if not model.startswith("/") or model.endswith(".gguf") or "$" in model:
        return []
    if not service.own or service.get("volumes_from"):
        return []
    mounts = targets(service)
    if covered(model, mounts) or any(one.startswith(model.rstrip("/") + "/") for one in mounts):
        return []
    return [Finding("error", service.name, f"nothing is mounted at {model}: the image holds no model",
                    f"mount its folder, such as ./models:{model.rpartition('/')[0] or model}:ro",
                    line=line_of(service, model), code="model-not-mounted")]  # fmt: skip


def _token(service: Service, line: Line) -> list[Finding]:
    """A gated repository without a token. A login of the host's user may lie in a cache that is mounted from it."""
    known = load().by_repo(model_of(line))
    if not known or not known[0].gated or known[0].gate_unsure or known[0].repo.partition("/")[0] != model_of(
        line).partition("/")[0]:  # fmt: skip
        return []
    offline = service.env.get("HF_HUB_OFFLINE")
    other = any(key.startswith("env") and key != "environment" for key in service.raw)   # env_file, or mistyped
    elsewhere = other or service.get("secrets") or (offline and offline.text not in ("", "0"))
    if elsewhere or any(name in service.env for name in _TOKENS) or _login(service):
        return []
    return [Finding("error", service.name, f"{model_of(line)} is gated, and no token is given: its download is refused",
                    "accept its licence on the Hub and give HF_TOKEN: ${HF_TOKEN:?set it in .env}",
                    line=line_of(service, model_of(line)), code="gated-no-token")]  # fmt: skip


def _login(service: Service) -> bool:
    said = service.get("volumes")
    sources = [item.partition(":")[0] if isinstance(item, str) else str(item.get("source") or "")
               for item in said if isinstance(item, (str, Map))] if isinstance(said, Seq) else []  # fmt: skip
    return any(one.rstrip("/").endswith((".cache/huggingface", ".cache")) or "$" in one for one in sources)


def _memory(service: Service) -> list[Finding]:
    said = service.get("deploy", "resources", "limits", "memory")
    where = ("deploy", "resources") if said is not None else ("mem_limit",)
    said = said if said is not None else service.get("mem_limit")
    size = _bytes(str(said))
    if said is None or size is None or size >= _SMALL or "cpu" in f"{service.image}{service.tag}":
        return []
    return [Finding("warning", service.name, f"may use {said} of the host's memory: loading weights and compiling take "
                    "more, and the kernel ends it", "leave the limit out, or set 16g or more", line=service.at(*where),
                    code="memory-limit")]  # fmt: skip


def _bytes(text: str) -> int | None:
    """Return Compose's size (`2g`, `512M`, `8gb`) in bytes; None for what is none."""
    low = text.strip().lower()
    number = low.rstrip("bkmgi")
    unit = low[len(number):].replace("i", "")
    unit = unit if unit == "b" else unit.removesuffix("b")
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        return None
