"""What is wrong with a vLLM service once it serves: context, port, caches, health, how it stops."""

from __future__ import annotations

import re

from orchestrator.decide.catalog import load
from orchestrator.decide.composecheck.commandline import command, model_of, open_ended
from orchestrator.decide.composecheck.ollama import health_words, restart
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

SHUTDOWN = (0, 18)  # --shutdown-timeout exists


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.of("vllm"):
        line = read(command(service)[0])
        found += _serving(service, line) + _health(service, line) + _stop(service, line) + restart(service)
    return found


def _serving(service: Service, line: Line) -> list[Finding]:
    found = []
    entry = load().by_repo(model_of(line))
    longest = entry[0].numbers.max_context if entry else None
    asked = line.get("--max-model-len") or line.get("--config")
    told = asked is not None or service.partial or open_ended(service)
    if model_of(line) and not told and (longest is None or longest > 16384):
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
        elif one.open and one.inside == port and not _loopback(line):
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
    return found + _hidden(service, line)


def _loopback(line: Line) -> bool:
    option = line.get("--host")
    return option is not None and (option.value or "").startswith(("127.", "localhost", "::1"))


def _hidden(service: Service, line: Line) -> list[Finding]:
    """An address that nobody outside the container reaches, or that everybody reaches on the host's network."""
    option = line.get("--host")
    said = option.value or "" if option else ""
    at = next((word.line for word in service.argv if word.text.startswith("--host")), service.at("network_mode"))
    if _loopback(line):
        return [] if service.host_network else [Finding(
            "error", service.name, f"--host {said} listens inside the container only: no port and no other service "
            "reaches it", "--host 0.0.0.0, or leave it out", line=at, code="host-loopback")]  # fmt: skip
    if service.host_network and not said:
        return [Finding("warning", service.name, f"on the host's network port {listening(line) or 8000} reaches every "
                        "machine of the network", "--host 127.0.0.1, and put a gateway in front",
                        line=service.at("network_mode"), code="open-port")]  # fmt: skip
    return []


def listening(line: Line) -> int | None:
    """Return the port of vLLM inside its container; None where it cannot be told."""
    option = line.get("--port")
    if option is None:
        return 8000
    return int(option.value) if option.value and option.value.isdigit() else None


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
    if option is None and new and service.release and not service.partial and not open_ended(service):
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
