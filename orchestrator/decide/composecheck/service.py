"""One service of a Compose file with its variables filled in: what runs, with which words, on which GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.composecheck.asks import GpuAsk, Port, gpu_asks, ports
from orchestrator.decide.composecheck.values import Map
from orchestrator.decide.composecheck.words import Word, argv, fill, text_of, unwrapped, variables

# Images that have an engine's name and are none.
_BESIDE = re.compile(r"webui|exporter|router|proxy|bench|monitor|dashboard|client|-ui\b|database|operator")
_CLIENT = "pull|list|ls|run|cp|create|ps|show|rm|push|stop"


@dataclass(frozen=True, slots=True)
class Service:
    """One service. `partial`: another file holds a part of it, so that what is missing here may be there."""

    name: str
    raw: Map
    line: int
    kind: str  # ollama, vllm, litellm, other
    image: str
    tag: str
    argv: tuple[Word, ...] = ()
    shell: bool = False
    entrypoint: tuple[str, ...] = ()
    env: dict[str, Word] = field(default_factory=dict)  # filled in
    plain: dict[str, Word] = field(default_factory=dict)  # as written
    ports: tuple[Port, ...] = ()
    gpus: tuple[GpuAsk, ...] = ()
    partial: bool = False

    def at(self, *keys: str) -> int:
        """Return the line of the deepest of these keys that is there."""
        node: Any = self.raw
        line = self.line
        for key in keys:
            if not isinstance(node, Map) or key not in node:
                break
            line, node = node.at(key), node[key]
        return line

    def get(self, *keys: str) -> Any:
        node: Any = self.raw
        for key in keys:
            node = node.get(key) if isinstance(node, Map) else None
        return node

    @property
    def own(self) -> bool:
        """Whether the image is vLLM's own build, whose entrypoint and releases are known."""
        return self.image.rpartition("/")[2].startswith("vllm-openai") or self.image.rpartition("/")[2] == "vllm-cpu"

    @property
    def replaced(self) -> bool:
        """Whether the image's entrypoint is not used; an empty one takes it away, too."""
        return self.raw.get("entrypoint") is not None

    @property
    def host_network(self) -> bool:
        return self.raw.get("network_mode") == "host"

    @property
    def release(self) -> tuple[int, ...] | None:
        """The version in the image's tag; None for latest, digests, what is no version, and others' builds."""
        return release(self.tag) if self.own or self.kind != "vllm" else None


def release(tag: str) -> tuple[int, ...] | None:
    """Return (0, 5, 3, 1) for `v0.5.3.post1`; the suffix of a build (`-cu129`) does not count."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:\.post(\d+))?(?=$|[-_.+])", tag)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def build(name: str, raw: Map, line: int, env: Mapping[str, str], text: str) -> Service:
    """Return a service from its mapping; tolerant of wrong types, which others report."""
    image = fill(text_of(raw.get("image")), env)
    repository, tag = split_image(image)
    words = argv(raw.get("command"), raw.at("command"), env, text)
    entry = tuple(word.text for word in argv(raw.get("entrypoint"), raw.at("entrypoint"), env, text))
    inner, shell = unwrapped(entry, words)
    plain = variables(raw.get("environment"), raw.at("environment"))
    return Service(
        name,
        raw,
        line,
        kind_of(repository, inner, entry, name, built="build" in raw),
        repository,
        tag,
        inner,
        shell,
        entry,
        {key: Word(fill(word.text, env), word.line) for key, word in plain.items()},
        plain,
        ports(raw.get("ports"), raw.at("ports"), env),
        gpu_asks(raw, env),
        partial=isinstance(raw.get("extends"), (str, Map)) or raw.get("build") is not None,
    )


def split_image(image: str) -> tuple[str, str]:
    """Return repository and tag (or digest) of an image."""
    bare, _, digest = image.partition("@")
    head, _, last = bare.rpartition("/")
    repository, _, tag = last.partition(":")
    return f"{head}/{repository}" if head else repository, tag or digest


def kind_of(image: str, words: tuple[Word, ...], entry: tuple[str, ...], name: str, *, built: bool) -> str:
    """Return what a service is, by its image, else by what it runs; what only calls a server is other."""
    last = image.lower().rpartition("/")[2]
    said = [*entry, *(word.text for word in words)]
    if "litellm" in last and not _BESIDE.search(last):
        return "litellm"
    if re.match(r"vllm|.*[-_]vllm$", last) and not _BESIDE.search(last):
        return "vllm"
    if last == "ollama" or (said[:1] and said[0].rsplit("/", 1)[-1] == "ollama" and "serve" in said[:2]):
        return "other" if last == "ollama" and calls_only(words, entry) else "ollama"
    if "vllm.entrypoints.openai.api_server" in said or ("vllm" in said[:1] and "serve" in said[:2]):
        return "vllm"
    return name if built and name in ("vllm", "ollama") else "other"


def calls_only(words: tuple[Word, ...], entry: tuple[str, ...]) -> bool:
    """Whether Ollama's image runs as a client, such as a helper that pulls models and ends."""
    text = " ".join([*entry, *(word.text for word in words)])
    if re.search(r"\bserve\b", text):
        return False
    if entry:
        return bool(re.search(rf"\bollama\s+({_CLIENT})\b|/api/(pull|generate|create)\b", text))
    return bool(words) and bool(re.fullmatch(_CLIENT, words[0].text))
