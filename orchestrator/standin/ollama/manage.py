"""Changes to the models directory: create, copy, delete, pull, push, blobs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from orchestrator.standin.ollama import golang, names, native, respond
from orchestrator.standin.ollama.models import Model
from orchestrator.standin.ollama.requests import Refusal
from orchestrator.standin.ollama.service import Service
from orchestrator.standin.wire import Exchange

Json = dict[str, Any]
NO_HOST = "no such host"


async def copy(service: Service, exchange: Exchange) -> None:
    request = native.request_of(exchange, "CopyRequest")
    source, destination = str(request.get("source") or ""), str(request.get("destination") or "")
    if not names.parse(source).valid:
        raise Refusal(400, f'source "{source}" is invalid')
    if not names.parse(destination).valid:
        raise Refusal(400, f'destination "{destination}" is invalid')
    if not service.store.copy(source, destination):
        raise Refusal(404, f'model "{source}" not found')
    await _empty(exchange)


async def delete(service: Service, exchange: Exchange) -> None:
    request = native.request_of(exchange, "DeleteRequest")
    name = str(request.get("model") or request.get("name") or "")
    if not names.parse(name).valid:
        raise Refusal(400, f'name "{name}" is invalid')
    if not service.store.delete(name):
        raise Refusal(404, f"model '{name}' not found")
    await _empty(exchange)


async def _empty(exchange: Exchange) -> None:
    await exchange.reply(200, b"", {})


async def report(exchange: Exchange, lines: list[Json], *, streaming: bool) -> None:
    """Answer a job in progress lines, or with its last line only; a failed one is a 500 then."""
    if streaming:
        await exchange.start(200, {"content-type": respond.NDJSON})
        for line in lines:
            await exchange.write(golang.dumps(line) + b"\n")
        await exchange.end()
        return
    status = 500 if "error" in lines[-1] else 200
    await respond.send(exchange, status, golang.dumps(lines[-1]), respond.BARE)


def _unreachable(name: str, action: str = "pull model manifest") -> str:
    parsed = names.parse(name)
    url = f"https://{parsed.host}/v2/{parsed.namespace}/{parsed.model}/manifests/{parsed.tag}"
    return f'{action}: Get "{url}": dial tcp: lookup {parsed.host}: {NO_HOST}'


async def create(service: Service, exchange: Exchange) -> None:
    request = native.request_of(exchange, "CreateRequest")
    name = str(request.get("model") or request.get("name") or "")
    if not names.parse(name).valid:
        raise Refusal(400, "invalid model name")
    streaming = request.get("stream") is not False
    base = service.store.get(str(request.get("from") or "")) if request.get("from") else None
    if not base and not request.get("from"):
        await _create_from_files(service, exchange, request, streaming=streaming)
    elif base is None:
        missing = [{"status": "pulling manifest"}, {"error": _unreachable(str(request["from"]))}]
        await report(exchange, missing, streaming=streaming)
    elif _broken(str(request.get("template") or "")):
        error = golang.dumps({"error": "template error: template: :1: unclosed action"})
        await respond.send(exchange, 400, error, respond.BARE)
    else:
        stored = service.store.put(name, _derived(base, request))
        await report(exchange, _progress(base, stored), streaming=streaming)


def _broken(template: str) -> bool:
    return template.count("{{") != template.count("}}")


def _derived(base: Model, request: Json) -> Model:
    parameters = {**base.parameters, **(request.get("parameters") or {})}
    template = request.get("template")
    license_text = request.get("license") or base.license
    return replace(
        base,
        parent=base.name,
        template=template or base.template,
        capabilities=_capabilities(base, template) if template else base.capabilities,
        system=request.get("system") or base.system,
        license=license_text if isinstance(license_text, str) else "\n".join(license_text),
        messages=tuple(request.get("messages") or base.messages),
        parameters=parameters,
    )


def _capabilities(base: Model, template: str) -> tuple[str, ...]:
    """Return what a template lets a model do; what the weights can do stays."""
    kept = [c for c in base.capabilities if c in {"completion", "embedding", "vision"}]
    wanted = {"tools": ".Tools", "insert": ".Suffix", "thinking": ".Thinking"}
    return (*kept, *(name for name, variable in wanted.items() if variable in template))


def _progress(base: Model, made: Model) -> list[Json]:
    lines = [{"status": f"using existing layer {base.blob}"}]
    for layer in made.layers:
        digest = f"sha256:{hashlib.sha256(layer[1]).hexdigest()}"
        verb = "using existing" if layer in base.layers else "creating new"
        lines.append({"status": f"{verb} layer {digest}"})
    return [*lines, {"status": "writing manifest"}, {"status": "success"}]


async def _create_from_files(service: Service, exchange: Exchange, request: Json, *, streaming: bool) -> None:
    """Refuse, or take the blobs that were uploaded for a model like the default one."""
    files = request.get("files") or {}
    if not files:
        error = golang.dumps({"error": "neither 'from' or 'files' was specified"})
        await exchange.reply(400, error, {"content-type": respond.BARE}, sized=not streaming)
        return
    for digest in files.values():
        path = service.store.blob_path(str(digest))
        if not path.exists():
            lines = [{"error": f"open {path}: no such file or directory"}]
            await report(exchange, lines, streaming=streaming)
            return
    base = next(iter(service.store.models()))
    made = service.store.put(str(request["model"]), _derived(replace(base, system="", messages=()), request))
    lines = [{"status": "parsing GGUF"}, {"status": "verifying conversion"}]
    lines += [{"status": f"creating new layer {made.blob}"}, {"status": "writing manifest"}, {"status": "success"}]
    await report(exchange, lines, streaming=streaming)


async def pull(_service: Service, exchange: Exchange) -> None:
    """Fail as a server without a network does."""
    await _transfer(exchange, "pulling manifest")


async def push(service: Service, exchange: Exchange) -> None:
    request = native.request_of(exchange, "PullRequest")
    parsed = names.parse(_transferred(request))
    path = service.store.root / "manifests" / parsed.host / parsed.namespace / parsed.model / parsed.tag
    lines: list[Json] = [{"status": "retrieving manifest"}]
    if path.exists():
        lines.append({"error": _unreachable(parsed.full, "push model")})
    else:
        lines += [
            {"status": "couldn't retrieve manifest"},
            {"error": f"open {path}: no such file or directory"},
        ]
    await report(exchange, lines, streaming=request.get("stream") is not False)


def _transferred(request: Json) -> str:
    name = str(request.get("model") or request.get("name") or "")
    if not names.parse(name).valid:
        raise Refusal(400, "invalid model name")
    return name


async def _transfer(exchange: Exchange, first: str) -> None:
    request = native.request_of(exchange, "PullRequest")
    lines = [{"status": first}, {"error": _unreachable(_transferred(request))}]
    await report(exchange, lines, streaming=request.get("stream") is not False)


async def blob(service: Service, exchange: Exchange) -> None:
    """Take or look for a layer."""
    digest = exchange.path.removeprefix("/api/blobs/")
    path = service.store.blob_path(digest)
    if exchange.method == "HEAD":
        await exchange.reply(200 if path.exists() else 404, b"", {})
        return
    actual = f"sha256:{hashlib.sha256(exchange.body).hexdigest()}"
    if actual != digest:
        await respond.refuse(exchange, Refusal(400, f'digest mismatch, expected "{digest}", got "{actual}"'))
        return
    known = path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(exchange.body)
    await exchange.reply(200 if known else 201, b"", {})
