"""What talks to the engines (LiteLLM, Open WebUI, applications), and secrets in plain text anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from orchestrator.decide.composecheck.document import Broken, Map, Seq, read
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding, is_reference, secret_name, secret_value

_OPENAI = re.compile(r"OPENAI.*(BASE|URL|HOST|ENDPOINT)|VLLM.*(URL|BASE|ENDPOINT)|LLM_BASE_URL", re.IGNORECASE)


def check(project: Project, others: Mapping[str, str]) -> list[Finding]:
    """`others` holds the texts of mounted files, by the path that the Compose file names."""
    found = _litellm(project.raw, project, "file")
    for service in project.services:
        found += _secrets(service) + _urls(service, project)
    for path, text in others.items():
        try:
            raw, _ = read(text)
        except Broken as broken:
            found.append(replace(broken.finding, where=path))
            continue
        found += [replace(one, where=path) for one in _litellm(raw, project, path)]
    return found + _inline(project)


def _inline(project: Project) -> list[Finding]:
    found = []
    configs = project.raw.get("configs")
    for name, body in configs.items() if isinstance(configs, Map) else ():
        content = body.get("content") if isinstance(body, Map) else None
        if isinstance(content, str) and "model_list" in content:
            try:
                inner, _ = read(content)
            except Broken as broken:
                found.append(replace(broken.finding, where=name, line=body.at("content")))
                continue
            found += [replace(one, line=body.at("content")) for one in _litellm(inner, project, name)]
    return found


def _litellm(raw: Map, project: Project, where: str) -> list[Finding]:
    models = raw.get("model_list")
    found = []
    for item in models if isinstance(models, Seq) else ():
        said: Any = item.get("litellm_params") if isinstance(item, Map) else None
        if not isinstance(said, Map):
            continue
        base, model = str(said.get("api_base") or ""), str(said.get("model") or "")
        provider = model.partition("/")[0]
        if provider in ("openai", "hosted_vllm", "text-completion-openai") and base and _local(base, project):
            found += _missing_v1(base, where, said.at("api_base"))
        if provider in ("ollama", "ollama_chat") and urlsplit(base).path.rstrip("/").endswith("/v1"):
            found.append(
                Finding(
                    "error",
                    where,
                    f"api_base {base} ends in /v1, but {provider}/ talks Ollama's own API",
                    "leave /v1 out",
                    line=said.at("api_base"),
                    code="ollama-v1",
                )
            )
        key = str(said.get("api_key") or "")
        if secret_value(key):
            found.append(
                Finding(
                    "error",
                    where,
                    "an API key in plain text",
                    "api_key: os.environ/NAME",
                    line=said.at("api_key"),
                    code="secret",
                )
            )
    return found


def _local(url: str, project: Project) -> bool:
    """Whether a URL means a server like ours, not a cloud's own path layout."""
    host = urlsplit(url).hostname or ""
    ours = project.named(host)
    return (
        (ours is not None and ours.kind in ("vllm", "ollama"))
        or (ours is None and "." not in host)
        or bool(re.fullmatch(r"[\d.]+", host))
        or "vllm" in host
    )


def _missing_v1(url: str, where: str, line: int) -> list[Finding]:
    if "${" in url or urlsplit(url).path.rstrip("/") != "":
        return []
    return [
        Finding(
            "error",
            where,
            f"{url} lacks /v1: the client asks for /chat/completions there and gets 404",
            f"{url.rstrip('/')}/v1",
            line=line,
            code="no-v1",
        )
    ]


def _urls(service: Service, project: Project) -> list[Finding]:
    if service.kind in ("ollama", "vllm"):
        return []
    found: list[Finding] = []
    engines = {port.inside for one in project.services if one.kind in ("ollama", "vllm") for port in one.ports}
    pairs = list(service.env.items())
    options = [word.text for word in service.argv]
    pairs += [
        (flag, service.argv[at + 1]) for at, flag in enumerate(options[:-1]) if flag in ("--api_base", "--api-base")
    ]
    for name, word in pairs:
        for url in re.findall(r"https?://[^\s;,\"']+", word.text):
            try:
                host, port = urlsplit(url).hostname or "", urlsplit(url).port
            except ValueError:
                continue
            target = project.named(host)
            if (_OPENAI.search(name) or name.startswith("--api")) and target and target.kind in ("vllm", "ollama"):
                found += _missing_v1(url, service.name, word.line)
            if host in ("localhost", "127.0.0.1") and port in engines and service.raw.get("network_mode") != "host":
                found.append(
                    Finding(
                        "error",
                        service.name,
                        f"{name} points to {host}, which is this container itself",
                        "name the other service: " + _engine(port, project),
                        line=word.line,
                        code="localhost",
                    )
                )
    return found


def _engine(port: int | None, project: Project) -> str:
    names = [one.name for one in project.services if port in {each.inside for each in one.ports}]
    return f"http://{names[0] if names else 'SERVICE'}:{port}"


def _secrets(service: Service) -> list[Finding]:
    found = []
    for name, word in service.plain.items():
        better = "HF_TOKEN" if name == "HUGGING_FACE_HUB_TOKEN" else name
        if not word.text or is_reference(word.text):
            continue
        if secret_value(word.text) or (secret_name(name) and "${" not in word.text and _real(word.text)):
            found.append(
                Finding(
                    "error",
                    service.name,
                    f"{name} holds a secret in plain text",
                    f"put it into .env and write {better}: ${{{better}}}",
                    line=word.line,
                    code="secret",
                )
            )
    if service.kind == "vllm":
        return found
    found += [
        Finding(
            "error",
            service.name,
            "a secret on the command line: `docker inspect` shows it",
            "give it by reference from .env",
            line=word.line,
            code="secret",
        )
        for word in service.argv
        if secret_value(word.text)
    ]
    return found


def _real(value: str) -> bool:
    """Whether a value is meant: engines without keys are given a word such as `none`."""
    return value.lower() not in (
        "none",
        "null",
        "empty",
        "ollama",
        "vllm",
        "dummy",
        "false",
        "true",
        "sk-none",
        "na",
        "n/a",
        "not-needed",
        "unused",
        "0",
        "1",
    )
