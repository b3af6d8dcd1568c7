"""What is wrong with an Ollama service."""

from __future__ import annotations

import difflib
import re

from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding

_ABSENT = ("curl", "wget", "python", "python3", "nc")
_KNOWN = (  # noqa: SIM905 - a word a line would be long
    "OLLAMA_HOST OLLAMA_ORIGINS OLLAMA_MODELS OLLAMA_KEEP_ALIVE OLLAMA_LOAD_TIMEOUT OLLAMA_MAX_LOADED_MODELS "
    "OLLAMA_MAX_QUEUE OLLAMA_NUM_PARALLEL OLLAMA_NOPRUNE OLLAMA_NOHISTORY OLLAMA_FLASH_ATTENTION OLLAMA_KV_CACHE_TYPE "
    "OLLAMA_CONTEXT_LENGTH OLLAMA_DEBUG OLLAMA_LLM_LIBRARY OLLAMA_SCHED_SPREAD OLLAMA_GPU_OVERHEAD OLLAMA_VULKAN "
    "OLLAMA_NEW_ENGINE OLLAMA_NEW_ESTIMATES OLLAMA_MULTIUSER_CACHE OLLAMA_INTEL_GPU OLLAMA_REMOTES OLLAMA_AUTH "
    "OLLAMA_LIBRARY_PATH OLLAMA_DEBUG_LOG_REQUESTS OLLAMA_NO_CLOUD OLLAMA_API_KEY OLLAMA_EDITOR"
).split()
# Names that tutorials have and the server does not read -> what to do.
_NEVER = {
    "OLLAMA_NUM_CTX": "name it OLLAMA_CONTEXT_LENGTH", "OLLAMA_CONTEXT_SIZE": "name it OLLAMA_CONTEXT_LENGTH",
    "OLLAMA_MAX_CONTEXT": "name it OLLAMA_CONTEXT_LENGTH",
    "OLLAMA_NUM_GPU": "num_gpu is an option of a request or Modelfile",
    "OLLAMA_GPU_LAYERS": "num_gpu is an option of a request or Modelfile",
    "OLLAMA_NUM_THREAD": "num_thread is an option of a request or Modelfile",
    "OLLAMA_NUM_THREADS": "num_thread is an option of a request or Modelfile",
    "OLLAMA_USE_GPU": "take it out: the reservation gives the GPU", "OLLAMA_GPU": "take it out",
    "OLLAMA_CUDA": "take it out: the reservation gives the GPU",
    "OLLAMA_GPU_MEMORY": "pin OLLAMA_CONTEXT_LENGTH, OLLAMA_NUM_PARALLEL and OLLAMA_MAX_LOADED_MODELS",
    "OLLAMA_MAX_PARALLEL": "name it OLLAMA_NUM_PARALLEL", "OLLAMA_PARALLEL": "name it OLLAMA_NUM_PARALLEL",
    "OLLAMA_PORT": "write OLLAMA_HOST: 0.0.0.0:PORT", "OLLAMA_USE_MLX": "take it out: MLX is for Apple's own GPUs",
    "OLLAMA_RUNNERS_DIR": "take it out: it is gone", "OLLAMA_TMPDIR": "take it out: it is gone",
}  # fmt: skip
SPLIT = (0, 30)  # both older engines left; every model runs in a llama-server


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.of("ollama"):
        found += _health(service) + _variables(service) + _volume(service) + _restart(service) + _words(service)
    return found


def health_words(service: Service) -> list[str]:
    """Return the programs and arguments of a healthcheck, from either of its forms."""
    test = service.get("healthcheck", "test")
    text = (
        " ".join(str(one) for one in test if not isinstance(one, (Map, Seq)))
        if isinstance(test, Seq)
        else ""
        if isinstance(test, Map)
        else str(test or "")
    )
    return re.split(r"[\s;|&()\"']+", text)


def _health(service: Service) -> list[Finding]:
    line = service.at("healthcheck", "test")
    words = [word.rsplit("/", 1)[-1] for word in health_words(service)]
    absent = next((word for word in words if word in _ABSENT), "")
    if absent and not service.partial:
        return [
            Finding(
                "error",
                service.name,
                f"the healthcheck calls {absent}, which the image does not have: it never becomes healthy, and "
                "what waits for that never starts",
                'test: ["CMD", "ollama", "list"]',
                line=line,
                code="health-curl",
            )
        ]
    if "ollama" in words and words[words.index("ollama") + 1 :][:1] in (["--version"], ["-v"]):
        return [
            Finding(
                "warning",
                service.name,
                "`ollama --version` succeeds without a server",
                'test: ["CMD", "ollama", "list"]',
                line=line,
                code="health-version",
            )
        ]
    return []


def _words(service: Service) -> list[Finding]:
    """The image's entrypoint is `ollama` already."""
    words = [word.text for word in service.argv]
    if service.replaced or service.partial or not words:
        return []
    if words[0].rpartition("/")[2] == "ollama" or service.shell:
        said = "a shell" if service.shell else "`ollama`"
        fix = 'entrypoint: ["/bin/sh", "-c"]' if service.shell else "command: serve, or leave it out"
        return [Finding("error", service.name, f"the command begins with {said}, but the image's entrypoint `ollama` "
                        "still stands before it: unknown command", fix, line=service.at("command"),
                        code="repeated")]  # fmt: skip
    return []


def _variables(service: Service) -> list[Finding]:
    found = []
    new = service.release is None or service.release[:2] >= SPLIT
    for name, word in service.env.items():
        if name == "OLLAMA_MAX_VRAM":
            found.append(
                Finding(
                    "error",
                    service.name,
                    "OLLAMA_MAX_VRAM was removed: nothing limits Ollama's VRAM",
                    "pin OLLAMA_CONTEXT_LENGTH, OLLAMA_MAX_LOADED_MODELS and OLLAMA_NUM_PARALLEL, and "
                    "size vLLM from what is left",
                    line=word.line,
                    code="max-vram",
                )
            )
        elif name == "OLLAMA_GPU_OVERHEAD" and new and word.text not in ("", "0"):
            found.append(
                Finding(
                    "warning",
                    service.name,
                    "OLLAMA_GPU_OVERHEAD reserves nothing since Ollama 0.30",
                    "put the engines on different GPUs (device_ids), or pin Ollama's context, models and "
                    "parallel requests",
                    line=word.line,
                    code="gpu-overhead",
                )
            )
        elif name in _NEVER:
            what = f"{name} is no variable of Ollama's: nothing reads it"
            found.append(Finding("warning", service.name, what, _NEVER[name], line=word.line, code="ollama-variable"))
        elif name.startswith("OLLAMA_") and name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, 1, 0.9)
            found += (
                [
                    Finding(
                        "warning",
                        service.name,
                        f"{name} is no variable of Ollama's",
                        f"did you mean {near[0]}?",
                        line=word.line,
                        code="ollama-variable",
                    )
                ]
                if near
                else []
            )
    host = service.env.get("OLLAMA_HOST")
    if host and re.match(r"(https?://)?(127\.|localhost)", host.text) and service.get("network_mode") != "host":
        found.append(
            Finding(
                "error",
                service.name,
                f"OLLAMA_HOST={host.text} listens inside the container only",
                "OLLAMA_HOST: 0.0.0.0:11434",
                line=host.line,
                code="ollama-host",
            )
        )
    return found


def targets(service: Service) -> list[str]:
    """Return the paths inside the container on which something is mounted."""
    said = service.get("volumes")
    found = []
    for item in said if isinstance(said, Seq) else ():
        if isinstance(item, Map):
            target = item.get("target")
            found.append(target if isinstance(target, str) else "")
        elif isinstance(item, str):
            parts = item.replace("${", "").split(":")
            found += [part for part in parts[-2:] if part.startswith("/")][-1:]
    return [one.rstrip("/") or "/" for one in found if one]


def covered(path: str, mounts: list[str]) -> bool:
    """Whether a path lies on a mount, or is the parent of one that holds what matters below it."""
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in mounts)


def _volume(service: Service) -> list[Finding]:
    models = service.env.get("OLLAMA_MODELS")
    path = models.text if models else "/root/.ollama/models"
    if not isinstance(service.get("volumes"), (Seq, type(None))):
        return []
    if covered(path, targets(service)) or service.partial or service.get("volumes_from") or "$" in path:
        return []
    return [
        Finding(
            "warning",
            service.name,
            f"nothing is mounted at {path}: the models go with the container",
            f"add a volume, such as ollama:{'/root/.ollama' if not models else path}",
            line=service.at("volumes"),
            code="ollama-volume",
        )
    ]


def _restart(service: Service) -> list[Finding]:
    return restart(service)


def restart(service: Service) -> list[Finding]:
    """Return whether a service stays down after a crash or a reboot."""
    policy = service.get("restart")
    kept = service.get("deploy", "restart_policy") is not None
    if service.partial or kept or str(policy).partition(":")[0] in ("always", "unless-stopped", "on-failure"):
        return []
    return [
        Finding(
            "advice",
            service.name,
            "does not come back after a crash or a reboot",
            "restart: unless-stopped",
            line=service.at("restart"),
            code="restart",
        )
    ]
