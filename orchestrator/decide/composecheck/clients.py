"""What talks to the engines (LiteLLM, Open WebUI, applications), and secrets in plain text anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.decide.composecheck.document import Broken, read
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.urls import loopback, missing_v1, path_of, served, split, wrong_port
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding, is_reference, secret_name, secret_value

_TO_OPENAI = ("openai", "hosted_vllm", "text-completion-openai")


def check(project: Project, others: Mapping[str, str]) -> list[Finding]:
    """`others` holds the texts of mounted files, by the path that the Compose file names."""
    found = _litellm(project.raw, project, "file")
    for service in project.services:
        found += _secrets(service)
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
            block = body.at("content") if "\n" in content.strip() else 0   # a block begins on the next line
            found += [replace(one, line=block + one.line if block else body.at("content"))
                      for one in _litellm(inner, project, name)]  # fmt: skip
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
        if provider in _TO_OPENAI and base and _local(base, project):
            found += missing_v1(base, where, said.at("api_base"))
        found += _reaches(base, model, where, said, project)
        if provider in ("ollama", "ollama_chat") and path_of(base).endswith("/v1"):
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


def _reaches(base: str, model: str, where: str, said: Map, project: Project) -> list[Finding]:
    """Whether an address leads to the engine's port, and the name is one that the engine answers to."""
    found = wrong_port(base, where, said.at("api_base"), project)
    if any(one.kind == "litellm" and not one.host_network for one in project.services):
        found += loopback(base, where, said.at("api_base"), "api_base", project)
    provider, _, name = model.partition("/")
    target = project.named(split(base)[0])
    names = served(target) if target and target.kind == "vllm" and provider in _TO_OPENAI else set()
    if names and name not in names and "$" not in name:
        shown = ", ".join(sorted(names))
        found.append(Finding("error", where, f"asks `{target.name if target else ''}` for the model {name}, which it "
                             f"serves as {shown}", f"{provider}/{min(names)}", line=said.at("model"),
                             code="served-name"))  # fmt: skip
    return found


def _local(url: str, project: Project) -> bool:
    """Whether a URL means a server like ours, not a cloud's own path layout."""
    host, _ = split(url)
    ours = project.named(host)
    return (
        (ours is not None and ours.kind in ("vllm", "ollama"))
        or (ours is None and "." not in host)
        or bool(re.fullmatch(r"[\d.]+", host))
        or "vllm" in host
    )


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
