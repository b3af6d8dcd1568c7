"""Addresses by which other services reach the engines: the right host, port and path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from orchestrator.decide.composecheck.commandline import command, model_of
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.serving import listening
from orchestrator.decide.composecheck.words import Word
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import read

_OPENAI = re.compile(r"OPENAI.*(BASE|URL|HOST|ENDPOINT)|VLLM.*(URL|BASE|ENDPOINT)|LLM_BASE_URL", re.IGNORECASE)
OLLAMA_PORT = 11434
_HOST, _GATEWAY = "http://host.docker.internal", "host.docker.internal:host-gateway"
_LOOPBACK = ("localhost", "127.0.0.1", "0.0.0.0", "::1")


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.services:
        if service.kind in ("ollama", "vllm"):
            continue
        for name, word, url in _said(service):
            found += _one(service, name, word, url, project)
    return found


def port_of(engine: Service) -> int | None:
    """Return the port on which an engine listens inside its container; None where it cannot be told."""
    if engine.kind == "vllm":
        return None if engine.partial and not engine.argv else listening(read(command(engine)[0]))
    said = engine.env.get("OLLAMA_HOST")
    found = re.search(r":(\d+)/?$", said.text) if said else None
    return int(found[1]) if found else None if said and "$" in said.text else OLLAMA_PORT


def served(engine: Service) -> set[str]:
    """Return the names under which a vLLM serves its model; empty where they cannot be told."""
    line = read(command(engine)[0])
    option = line.get("--served-model-name")
    names = set(option.values) if option else {model_of(line)}
    unknown = engine.partial or line.get("--config") or line.get("--lora-modules") or any("$" in one for one in names)
    return set() if unknown else names - {""}


def missing_v1(url: str, where: str, line: int) -> list[Finding]:
    """Return a finding for the address of an OpenAI-compatible server that has no path."""
    if "${" in url or path_of(url) or not split(url)[0]:
        return []
    return [Finding("error", where, f"{url} lacks /v1: the client asks for /chat/completions there and gets 404",
                    f"{url.rstrip('/')}/v1", line=line, code="no-v1")]  # fmt: skip


def loopback(url: str, where: str, line: int, what: str, project: Project) -> list[Finding]:
    """Return a finding for an address that means the asking container itself, on an engine's port."""
    host, port = split(url)
    if host not in _LOOPBACK or port is None:
        return []
    engines = [one for one in project.services if one.kind in ("ollama", "vllm")]
    right = [one for one in engines if port in {port_of(one), *(each.host for each in one.ports)}]
    if right and right[0].host_network:
        fix = f'{_HOST}:{port}, with extra_hosts: ["{_GATEWAY}"]'
    elif right:
        fix = f"name the other service: http://{right[0].name}:{port_of(right[0]) or port}"
    elif port == OLLAMA_PORT:
        fix = f'an Ollama outside Docker is {_HOST}:{port}, with extra_hosts: ["{_GATEWAY}"]'
    else:
        return []
    return [Finding("error", where, f"{what} points to {host}, which is this container itself", fix, line=line,
                    code="localhost")]  # fmt: skip


def _gateway(service: Service, word: Word, url: str) -> list[Finding]:
    """host.docker.internal is known by itself in Docker Desktop only."""
    known = "host.docker.internal" in str(service.get("extra_hosts"))
    if split(url)[0] != "host.docker.internal" or known or service.host_network:
        return []
    fix = f'extra_hosts: ["{_GATEWAY}"]'
    return [Finding("warning", service.name, "host.docker.internal is not known on Linux", fix, line=word.line,
                    code="host-internal")]  # fmt: skip


def split(url: str) -> tuple[str, int | None]:
    """Return host and port of an address; the port is the scheme's own where none is written, None if unreadable."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", None
    return parts.hostname or "", port


def path_of(url: str) -> str:
    """Return the path of an address without a slash at its end; empty where there is none or it cannot be read."""
    try:
        return urlsplit(url).path.rstrip("/")
    except ValueError:
        return ""


def wrong_port(url: str, where: str, line: int, project: Project) -> list[Finding]:
    """Return a finding for an address of an engine's service on a port where it does not listen."""
    host, port = split(url)
    target = project.named(host)
    if target is None or target.kind not in ("vllm", "ollama") or target.host_network or port is None:
        return []
    right = port_of(target)
    if right is None or right == port:
        return []
    outside = f": {port} is its port outside" if port in {one.host for one in target.ports} else ""
    return [Finding("error", where, f"{url} asks port {port}, but `{target.name}` listens on {right}{outside}",
                    f"{urlsplit(url).scheme}://{host}:{right}{urlsplit(url).path}", line=line,
                    code="url-port")]  # fmt: skip


def _said(service: Service) -> Iterator[tuple[str, Word, str]]:
    options = [word.text for word in service.argv]
    pairs = list(service.env.items())
    pairs += [
        (flag, service.argv[at + 1]) for at, flag in enumerate(options[:-1]) if flag in ("--api_base", "--api-base")
    ]
    for name, word in pairs:
        for url in re.findall(r"https?://[^\s;,\"']+", word.text):
            yield name, word, url


def _one(service: Service, name: str, word: Word, url: str, project: Project) -> list[Finding]:
    host, _ = split(url)
    target = project.named(host)
    found = wrong_port(url, service.name, word.line, project)
    if (_OPENAI.search(name) or name.startswith("--api")) and target and target.kind in ("vllm", "ollama"):
        found += missing_v1(url, service.name, word.line)
    # Open WebUI's image with that tag has an Ollama of its own inside.
    if not service.host_network and "ollama" not in service.tag:
        found += loopback(url, service.name, word.line, name, project)
    found += _gateway(service, word, url)
    webui = "webui" in service.image and name in ("OLLAMA_BASE_URL", "OLLAMA_BASE_URLS")
    if webui and path_of(url) in ("/api", "/v1"):
        found.append(Finding("error", service.name, f"{name} wants no path: Open WebUI adds /api itself",
                             url.rstrip("/").removesuffix(path_of(url)), line=word.line, code="ollama-v1"))  # fmt: skip
    return found
