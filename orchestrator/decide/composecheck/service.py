"""One service of a Compose file with its variables filled in: what runs, with which words, on which GPUs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.decide.composecheck.document import Map, Seq

_VARIABLE = re.compile(r"\$(?:\$|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}]*)\})")
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash", "ash", "dash", "/usr/bin/bash")


def fill(text: str, env: Mapping[str, str]) -> str:
    """Return a text with its variables replaced; one that has no value keeps its reference."""
    for _ in range(4):  # a default may hold another variable
        after = _VARIABLE.sub(lambda found: _filled(found, env), text)
        if after == text:
            break
        text = after
    return text.replace("$\0", "$")


def _filled(found: re.Match[str], env: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$\0"
    name, rest = found["plain"] or found["name"], found["rest"] or ""
    value = env.get(name)
    operator, default = (rest[:2], rest[2:]) if rest[:1] == ":" else (rest[:1], rest[1:])
    empty = value is None or (operator.startswith(":") and not value)
    if operator.endswith("+"):
        return "" if empty else default
    if not empty:
        return value or ""
    return default if operator.endswith("-") else found[0]


@dataclass(frozen=True, slots=True)
class Word:
    """One argument of a command and its line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Port:
    """One published port; `host` is None where Docker chooses one or it cannot be told."""

    ip: str
    host: int | None
    inside: int | None
    line: int

    @property
    def open(self) -> bool:
        """Whether other machines reach it."""
        return not self.ip.startswith(("127.", "::1", "[::1", "localhost"))


@dataclass(frozen=True, slots=True)
class GpuAsk:
    """What a service asks for. ids: None is any; count: None is all."""

    ids: tuple[str, ...] | None
    count: int | None
    line: int
    form: str  # devices, gpus, runtime, cdi


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
    def release(self) -> tuple[int, ...] | None:
        """The version in the image's tag; None for latest, digests and what is no version."""
        return release(self.tag)


def release(tag: str) -> tuple[int, ...] | None:
    """Return (0, 5, 3, 1) for `v0.5.3.post1`; the suffix of a build (`-cu129`) does not count."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:\.post(\d+))?(?=$|[-_.+])", tag)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def build(name: str, raw: Map, line: int, env: Mapping[str, str], text: str) -> Service:
    """Return a service from its mapping; tolerant of wrong types, which others report."""
    image = fill(_text(raw.get("image")), env)
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
    """Return what a service is, by its image, else by what it runs."""
    low = image.lower()
    said = [*entry, *(word.text for word in words)]
    for kind, parts in (("litellm", ("litellm",)), ("vllm", ("vllm",)), ("ollama", ("ollama/ollama", "/ollama"))):
        if any(part in low for part in parts) and "webui" not in low:
            return kind
    if low == "ollama" or (said[:1] and said[0].rsplit("/", 1)[-1] == "ollama" and "serve" in said[:2]):
        return "ollama"
    if "vllm.entrypoints.openai.api_server" in said or ("vllm" in said[:1] and "serve" in said[:2]):
        return "vllm"
    return name if built and name in ("vllm", "ollama") else "other"


def argv(value: Any, line: int, env: Mapping[str, str], text: str) -> tuple[Word, ...]:
    """Return the arguments as Compose splits them: a string by shell rules without comments, a list as it is."""
    if isinstance(value, Seq):
        return tuple(
            Word(fill(_text(item), env), at) for item, at in zip(value, value.lines, strict=True) if item is not None
        )
    if value is None or isinstance(value, Map):
        return ()
    whole = fill(str(value), env)
    try:
        words = shlex.split(whole, comments=False)
    except ValueError:  # a quotation that does not end
        words = whole.split()
    return tuple(_placed(words, line, text))


def _placed(words: list[str], line: int, text: str) -> list[Word]:
    lines = text.splitlines()
    placed, column = [], 0
    at = line - 1
    for word in words:
        for number in range(at, min(len(lines), line + 120)):
            place = lines[number].find(word, column if number == at else 0)
            if place >= 0:
                at, column = number, place + len(word)
                break
        placed.append(Word(word, at + 1))
    return placed


def unwrapped(entry: tuple[str, ...], words: tuple[Word, ...]) -> tuple[tuple[Word, ...], bool]:
    """Return the arguments inside `sh -c "…"`, up to the first operator of the shell, and whether there was one."""
    whole = [*(Word(word, words[0].line if words else 0) for word in entry), *words]
    if len(whole) < 2 or whole[0].text not in _SHELLS or not whole[1].text.startswith("-") or "c" not in whole[1].text:
        return words, False
    script = whole[2] if len(whole) > 2 else Word("", 0)
    try:
        inside = shlex.split(script.text, comments=True)
    except ValueError:
        inside = script.text.split()
    for start, word in enumerate(inside):
        if word == "serve" and start and inside[start - 1].endswith(("vllm", "ollama")):
            inside = inside[start - 1 :]
            break
        if word == "vllm.entrypoints.openai.api_server":
            inside = inside[start:]
            break
    end = next((at for at, word in enumerate(inside) if word in ("&&", "||", ";", "|", "&", ">", ">>")), len(inside))
    return tuple(Word(word, script.line) for word in inside[:end]), True


def variables(value: Any, line: int) -> dict[str, Word]:
    """Return the environment as written, from a mapping or from KEY=value items; a bare KEY is a reference."""
    if isinstance(value, Map):
        return {key: Word(f"${{{key}}}" if one is None else _text(one), value.at(key)) for key, one in value.items()}
    found = {}
    for item, at in zip(value, value.lines, strict=True) if isinstance(value, Seq) else ():
        if isinstance(item, (str, int, float)):
            key, equals, one = str(item).partition("=")
            found[key.strip()] = Word(one if equals else f"${{{key}}}", at or line)
    return found


def _text(value: Any) -> str:
    if isinstance(value, (Map, Seq)):  # aliases may make a few lines of YAML endless text
        return ""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def ports(value: Any, line: int, env: Mapping[str, str]) -> tuple[Port, ...]:
    found = []
    for item, at in zip(value, value.lines, strict=True) if isinstance(value, Seq) else ():
        if isinstance(item, Map):
            found.append(
                Port(
                    _text(item.get("host_ip")),
                    _number(fill(_text(item.get("published")), env)),
                    _number(fill(_text(item.get("target")), env)),
                    at,
                )
            )
        elif item is not None and not isinstance(item, Seq):
            short = re.fullmatch(r"(?:(?P<ip>.*):)?(?P<host>[\d-]*):(?P<inside>[\d-]+)(?:/\w+)?", fill(str(item), env))
            inside = _number(fill(str(item), env).partition("/")[0])
            if short:
                found.append(Port(short["ip"] or "", _number(short["host"]), _number(short["inside"]), at))
            elif inside:
                found.append(Port("", None, inside, at or line))
    return tuple(found)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def gpu_asks(raw: Map, env: Mapping[str, str]) -> tuple[GpuAsk, ...]:
    """Return every way in which a service asks for GPUs."""
    found = list(_reserved(raw, env))
    gpus = raw.get("gpus")
    if isinstance(gpus, str):
        found.append(GpuAsk(None, None, raw.at("gpus"), "gpus"))
    elif isinstance(gpus, Seq):
        pairs = zip(gpus, gpus.lines, strict=True)
        found += [_device(one, at, env, "gpus") for one, at in pairs if isinstance(one, Map)]
    if raw.get("runtime") == "nvidia":
        seen = variables(raw.get("environment"), 0).get("NVIDIA_VISIBLE_DEVICES")
        text = fill(seen.text, env) if seen else "all"
        if text not in ("", "void", "none"):
            ids = None if text == "all" or "$" in text else tuple(one.strip() for one in text.split(","))
            found.append(GpuAsk(ids, len(ids) if ids else None, raw.at("runtime"), "runtime"))
    devices = raw.get("devices")
    for one in devices if isinstance(devices, Seq) else ():
        if isinstance(one, str) and one.startswith("nvidia.com/gpu="):
            name = one.partition("=")[2]
            found.append(GpuAsk(None if name == "all" else (name,), None, raw.at("devices"), "cdi"))
    return tuple(found)


def _reserved(raw: Map, env: Mapping[str, str]) -> list[GpuAsk]:
    node: Any = raw
    for key in ("deploy", "resources", "reservations", "devices"):
        node = node.get(key) if isinstance(node, Map) else None
    if not isinstance(node, Seq):
        return []
    return [
        _device(one, at, env, "devices")
        for one, at in zip(node, node.lines, strict=True)
        if isinstance(one, Map) and _is_gpu(one)
    ]


def _is_gpu(device: Map) -> bool:
    capabilities = device.get("capabilities")
    return device.get("driver") in ("nvidia", "cdi") or (isinstance(capabilities, Seq) and "gpu" in capabilities)


def _device(device: Map, line: int, env: Mapping[str, str], form: str) -> GpuAsk:
    ids, count = device.get("device_ids"), fill(_text(device.get("count")), env)
    names = tuple(fill(_text(one), env) for one in ids) if isinstance(ids, Seq) else None
    return GpuAsk(names, len(names) if names is not None else _number(count), line, form)
