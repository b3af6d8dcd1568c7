"""What is wrong with a vLLM service: image, command line, health, memory that it shares."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from orchestrator.decide import vllm_args
from orchestrator.decide.catalog import load
from orchestrator.decide.composecheck.document import Map
from orchestrator.decide.composecheck.ollama import covered, health_words, restart, targets
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service, release
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

CURRENT = (0, 20)  # from here on the pinned release's flags are a fair measure
SHUTDOWN = (0, 18)  # --shutdown-timeout exists
KNOWN = ((0, 30), (0, 32))  # releases between which no flag is known to differ
# Architecture, by a word in the repository's name -> first release that serves it.
_FIRST = (
    (r"llama-?3\.[13]", "0.5.3.post1", "its rope scaling is unknown before"),
    (r"llama-?3\.2.*vision", "0.6.2", "its architecture is unknown before"),
    (r"llama-?3\.2", "0.5.3.post1", "its rope scaling is unknown before"),
    (r"llama-?4", "0.8.3", "its architecture is unknown before"),
    (r"qwen3", "0.8.4", "its architecture is unknown before"),
    (r"qwen2\.5-?vl", "0.7.2", "its architecture is unknown before"),
    (r"gemma-?3", "0.8.0", "its architecture is unknown before"),
    (r"gpt-oss", "0.10.1", "its architecture is unknown before"),
)
_NO_QUANTS = ("meta-llama", "mistralai", "deepseek-ai", "microsoft")


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.of("vllm"):
        words, repeated = command(service)
        repeated += _backslashes(service)
        line = read(words)
        found += repeated + _image(service, line) + _words(service, words, line) + _model(service, line)
        found += _serving(service, line) + _health(service, line) + _stop(service, line) + restart(service)
    return found


def command(service: Service) -> tuple[list[str], list[Finding]]:
    """Return vLLM's own arguments, and a finding where the entrypoint is repeated in them."""
    words = [word.text.strip() or word.text for word in service.argv if word.text != "\n"]
    for start in (
        ["vllm", "serve"],
        ["serve"],
        ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        ["python", "-m", "vllm.entrypoints.openai.api_server"],
        ["vllm.entrypoints.openai.api_server"],
    ):
        if words[: len(start)] == start:
            own = service.entrypoint or service.shell or service.partial
            what = " ".join(start)
            return words[len(start) :], [] if own else [
                Finding(
                    "error",
                    service.name,
                    f"`{what}` is in the image's entrypoint already: vLLM stops with `unrecognized arguments`",
                    "let the command begin with the model",
                    line=service.argv[0].line,
                    code="repeated",
                )
            ]
    return words, []


def _backslashes(service: Service) -> list[Finding]:
    return [
        Finding(
            "error",
            service.name,
            f"{word.text!r} reaches vLLM with a blank in front: a backslash at a line's end is no continuation here",
            "take the backslashes out: YAML joins the lines of the block",
            line=word.line,
            code="backslash",
        )
        for word in service.argv
        if not service.shell and word.text[:1].isspace()
    ]


def model_of(line: Line) -> str:
    """Return the repository that is served; empty where none is named."""
    option = line.get("--model")
    if line.loose and not line.loose[0][1].startswith(("#", "-")) and line.loose[0][0] == 0:
        return line.loose[0][1]
    return option.value or "" if option else ""


def _at(service: Service, text: str) -> int:
    return next((word.line for word in service.argv if text in word.text), service.at("command"))


def _image(service: Service, line: Line) -> list[Finding]:
    found, at, tag = [], service.at("image"), service.tag
    if "/" not in service.image and service.image and not service.partial:
        found.append(
            Finding(
                "error",
                service.name,
                f"there is no image `{service.image}` without a namespace",
                "vllm/vllm-openai:v0.30.0",
                line=at,
                code="image-name",
            )
        )
    if tag in ("", "latest", "nightly", "main") and not service.partial:
        found.append(
            Finding(
                "warning",
                service.name,
                f"the tag `{tag or 'latest'}` is another release after each pull: "
                "flags, defaults and the CUDA version change with it",
                "pin one, such as v0.30.0",
                line=at,
                code="latest",
            )
        )
    mine, repo = service.release, model_of(line).lower()
    for pattern, first, why in _FIRST:
        if mine and re.search(pattern, repo):
            if mine < (release(first) or ()):
                found.append(
                    Finding(
                        "error",
                        service.name,
                        f"vLLM {tag} cannot load {model_of(line)}: {why}",
                        f"{first} is the first good one; take a current one, such as v0.30.0 (there the model comes "
                        "first on the command line, without --model)",
                        line=at,
                        code="image-too-old",
                    )
                )
            break
    return found


def _words(service: Service, words: list[str], line: Line) -> list[Finding]:
    found = [
        replace(one, where=service.name, what=f"`{one.where}` {one.what}", line=_at(service, "#"))
        for one in vllm_args.hashes(words)
    ]
    current = service.release is None or service.release[:2] >= CURRENT
    said = [one for option in line.options for one in vllm_args.check_option(option)]
    if not current:  # an older release has other flags; what is wrong in any release is said all the same
        said = [
            replace(one, severity="advice", what=f"{one.what.partition(',')[0]}; {service.tag} still has it")
            if one.code == "removed"
            else one
            for one in said
            if one.code in ("removed", "secret", "utilization")
        ]
    elif not exact(service):
        said = [
            replace(one, severity="warning", what=f"{one.what} (this is {service.tag}: look into its own --help)")
            if one.code in ("unknown", "removed", "value")
            else one
            for one in said
        ]
    for at, word in line.loose:
        if (at or word.startswith("-")) and not word.startswith("#") and "${" not in word:
            said += _loose(at, word, words, line)
    said += vllm_args.twice([option.key for option in line.options])
    hidden = ("secret",) if current else ("secret", "unknown-variable")
    said += [one for one in vllm_args.check_env(_environment(service)) if one.code not in hidden]
    for one in said:
        place = service.plain[one.where].line if one.where in service.plain else _at(service, one.where.strip("'\\n "))
        found.append(replace(one, where=service.name, what=f"{one.where} {one.what}", line=place))
    if "--model" in {option.key for option in line.options} and current and not service.partial:
        found.append(
            Finding(
                "advice",
                service.name,
                "--model goes away: `vllm serve` takes the model by position",
                "begin the command with the repository",
                line=_at(service, "--model"),
                code="model-flag",
            )
        )
    return found


def exact(service: Service) -> bool:
    """Whether the table of flags is right for a service's release; `latest` counts as the newest that is known."""
    return service.release is None or KNOWN[0] <= service.release[:2] <= KNOWN[1]


def _loose(at: int, word: str, words: list[str], line: Line) -> list[Finding]:
    if not word.startswith("-") and line.get("--model") is None and at and "#" not in words[:at]:
        return (
            [
                Finding(
                    "error",
                    word,
                    f"stands alone after {words[at - 1]}",
                    "give the model first, and one value to each flag",
                    code="positional",
                )
            ]
            if model_of(line)
            else []
        )
    if " " in word and word.startswith("-"):
        return [
            Finding(
                "error",
                word,
                "is one argument: flag and value are two items of a list",
                f"write {json.dumps(word.split())}",
                code="joined",
            )
        ]
    return []


def _environment(service: Service) -> dict[str, str]:
    return {name: word.text for name, word in service.plain.items()}


def _model(service: Service, line: Line) -> list[Finding]:
    repo, at = model_of(line), service.at("command")
    if not repo:
        if service.partial or any("$" in word.text for word in service.argv) or line.get("--config"):
            return []
        return [
            Finding(
                "error",
                service.name,
                "names no model: vLLM then serves Qwen/Qwen3-0.6B without a word",
                "begin the command with the repository",
                line=at,
                code="no-model",
            )
        ]
    at = _at(service, repo)
    if repo.endswith(".gguf") or "/blobs/sha256-" in repo:
        return [
            Finding(
                "error",
                service.name,
                "vLLM does not load GGUF files: Ollama's models cannot be reused",
                "name a Hugging Face repository with safetensors",
                line=at,
                code="gguf",
            )
        ]
    if "$" in repo or repo.startswith(("/", ".")):
        return []
    if re.fullmatch(r"[\w.-]+:[\w.-]+", repo) or "/" not in repo:
        near = load().find(repo)
        return [
            Finding(
                "error",
                service.name,
                f"`{repo}` is no Hugging Face repository",
                near.repo if near else "write OWNER/NAME",
                line=at,
                code="not-a-repo",
            )
        ]
    owner, _, name = repo.partition("/")
    if (
        owner in _NO_QUANTS
        and re.search(r"-(AWQ|GPTQ|GGUF|INT4|INT8)\b", name, re.IGNORECASE)
        and not load().by_repo(repo)
    ):
        return [
            Finding(
                "error",
                service.name,
                f"there is no {repo}: {owner} publishes no such quantisation",
                _quantised(repo),
                line=at,
                code="invented-repo",
            )
        ]
    return []


def _quantised(repo: str) -> str:
    plain = re.sub(r"-(AWQ|GPTQ|GGUF|INT4|INT8).*$", "", repo, flags=re.IGNORECASE)
    for name in (plain, plain.replace("/Llama-", "/Meta-Llama-"), plain.replace("/Meta-Llama-", "/Llama-")):
        known = load().by_repo(name)
        if known and known[0].quantized:
            awq = [one for one, scheme in known[0].quantized if "awq" in f"{one} {scheme}".lower()]
            return f"take {(awq or [known[0].quantized[0][0]])[0]}"
    return f"take {plain}, or a quantised one that somebody publishes"


def _serving(service: Service, line: Line) -> list[Finding]:
    found = []
    entry = load().by_repo(model_of(line))
    longest = entry[0].numbers.max_context if entry else None
    asked = line.get("--max-model-len") or line.get("--config")
    if asked is None and model_of(line) and not service.partial and (longest is None or longest > 16384):
        size = f"{longest} tokens" if longest else "as much as the model knows, often 131072 tokens"
        found.append(
            Finding(
                "warning",
                service.name,
                f"without --max-model-len one request may take {size}: vLLM does "
                "not start where the cache cannot hold that",
                "add --max-model-len, such as 8192",
                line=service.at("command"),
                code="max-model-len",
            )
        )
    port = listening(line)
    for one in service.ports:
        if one.inside is not None and port is not None and one.inside != port:
            found.append(
                Finding(
                    "error",
                    service.name,
                    f"publishes port {one.inside} of the container, but vLLM listens on {port}",
                    f"write {one.host or port}:{port}",
                    line=one.line,
                    code="port-inside",
                )
            )
        elif one.open and one.inside == port:
            key = line.get("--api-key") or service.env.get("VLLM_API_KEY")
            what = (
                "reaches every machine of the network: the key guards /v1 alone, /invocations and /metrics are open"
                if key
                else "reaches every machine of the network without a key"
            )
            found.append(
                Finding(
                    "warning",
                    service.name,
                    f"port {one.host or port} {what}",
                    f"publish 127.0.0.1:{one.host or port}:{port}, and put a gateway in front",
                    line=one.line,
                    code="open-port",
                )
            )
    return found + _cache(service, line)


def listening(line: Line) -> int | None:
    """Return the port of vLLM inside its container; None where it cannot be told."""
    option = line.get("--port")
    if option is None:
        return 8000
    return int(option.value) if option.value and option.value.isdigit() else None


def _cache(service: Service, line: Line) -> list[Finding]:
    if service.partial or model_of(line).startswith(("/", ".")) or line.get("--download-dir"):
        return []
    home = service.env.get("HF_HOME") or service.env.get("HF_HUB_CACHE") or service.env.get("HUGGINGFACE_HUB_CACHE")
    path = home.text if home else "/root/.cache/huggingface"
    mounts = targets(service)
    below = any(one.startswith(path.rstrip("/") + "/") for one in mounts)
    if "$" in path or below or covered(path, mounts) or service.get("user") or service.get("volumes_from"):
        return []
    return [
        Finding(
            "warning",
            service.name,
            f"nothing is mounted at {path}: each new container downloads the weights again",
            f"add a volume, such as hf-cache:{path}",
            line=service.at("volumes"),
            code="no-weights-volume",
        )
    ]


def _health(service: Service, line: Line) -> list[Finding]:
    check = service.get("healthcheck")
    if not isinstance(check, Map) or check.get("disable") is True or "test" not in check:
        return []
    at, words = service.at("healthcheck", "test"), health_words(service)
    found = []
    if "wget" in words and not service.partial:
        found.append(
            Finding(
                "error",
                service.name,
                "the healthcheck calls wget, which the image does not have",
                'test: ["CMD", "curl", "-f", "http://localhost:8000/health"]',
                line=at,
                code="health-wget",
            )
        )
    port = re.search(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0):(\d+)", " ".join(words))
    if port and listening(line) is not None and int(port[1]) != listening(line):
        found.append(
            Finding(
                "error",
                service.name,
                f"the healthcheck asks port {port[1]}, but vLLM listens on {listening(line)}",
                f"ask port {listening(line)}",
                line=at,
                code="health-port",
            )
        )
    start, every = seconds(check.get("start_period"), 0), seconds(check.get("interval"), 30)
    tries = check.get("retries", 3)
    if start is not None and every is not None and isinstance(tries, int) and start + every * tries < 240:
        found.append(
            Finding(
                "warning",
                service.name,
                f"counts as unhealthy {start + every * tries:g} s after its start: "
                "loading takes minutes, and the first start downloads the weights",
                "start_period: 1800s",
                line=service.at("healthcheck", "start_period"),
                code="start-period",
            )
        )
    return found


def _stop(service: Service, line: Line) -> list[Finding]:
    grace = seconds(service.get("stop_grace_period"), 10)
    option = line.get("--shutdown-timeout")
    new = service.release is None or service.release[:2] >= SHUTDOWN
    wanted = float(option.value) if option and option.value and re.fullmatch(r"\d+(\.\d+)?", option.value) else None
    if wanted is not None and grace is not None and grace <= wanted:
        return [
            Finding(
                "warning",
                service.name,
                f"stop_grace_period ({grace:g} s) is not longer than "
                f"--shutdown-timeout ({wanted:g} s): Docker kills it in the midst of answers",
                f"stop_grace_period: {wanted + 30:g}s",
                line=service.at("stop_grace_period"),
                code="grace",
            )
        ]
    if option is None and new and service.release and not service.partial:
        return [
            Finding(
                "advice",
                service.name,
                "a stop lets running answers hang: --shutdown-timeout is 0 by default",
                "add --shutdown-timeout 120 and stop_grace_period: 150s",
                line=service.line,
                code="shutdown",
            )
        ]
    return []


def seconds(value: object, default: float) -> float | None:
    """Return Compose's duration (`1m30s`, `90s`, `500ms`) in seconds; None for what is none."""
    if value is None:
        return default
    parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", str(value))
    if not parts or "".join(number + unit for number, unit in parts) != str(value):
        return None
    return sum(float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
