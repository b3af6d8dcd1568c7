"""The door to an Ollama server's own API."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from orchestrator.errors import MigrateError

_QUICK_S = 10.0
# Loading reads the whole file from disk; Ollama itself gives up after five minutes (OLLAMA_LOAD_TIMEOUT).
_LOAD_S = 330.0
_GUARDED = (401, 403, 407)
_PROXIES = ("nginx", "openresty", "caddy", "traefik", "haproxy", "cloudflare", "envoy", "apache")


@dataclass(frozen=True, slots=True)
class Tag:
    """One installed model, from /api/tags; size in bytes on disk."""

    name: str
    size: int
    digest: str
    modified_at: str
    details: dict[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    remote_host: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """One model in full, from /api/show; `parameters` are parsed, a repeated one (stop) is a list."""

    name: str
    template: str
    system: str | None
    parameters: dict[str, Any]
    messages: tuple[dict[str, str], ...]
    details: dict[str, Any]
    model_info: dict[str, Any]
    capabilities: tuple[str, ...]
    modified_at: str
    modelfile: str = ""


class Guarded(MigrateError):
    """What answers wants authentication or refuses: a proxy, as Ollama itself has neither user nor password."""


@dataclass(frozen=True, slots=True)
class Running:
    """One loaded model, from /api/ps; sizes in bytes."""

    name: str
    size: int
    size_vram: int
    context_length: int
    digest: str
    expires_at: str


class Refused(MigrateError):
    """Ollama is there and answered, with an error of its own."""


class Ollama:
    """Synchronous; every method raises MigrateError with the server's own words and a next step."""

    def __init__(self, base_url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.front = ""     # the proxy that the last answer names in Server or Via; Ollama sends neither
        key = os.environ.get("OLLAMA_API_KEY", "").strip()      # as Ollama's own clients read it
        headers = {"Authorization": f"Bearer {key}"} if key.isascii() and key.isprintable() and key else {}
        self._http = httpx.Client(
            base_url=self.base_url, headers=headers, timeout=_QUICK_S, transport=transport, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> str:
        return str(self._ask("GET", "/api/version").get("version", ""))

    def tags(self) -> tuple[Tag, ...]:
        return tuple(_tag(entry) for entry in self._ask("GET", "/api/tags").get("models") or ())

    def show(self, name: str, *, verbose: bool = False) -> Shown:
        """Return what Ollama says of a model; lists are null unless `verbose`, which adds megabytes of vocabulary."""
        answer = self._ask("POST", "/api/show", {"model": name, **({"verbose": True} if verbose else {})})
        return Shown(
            name=name,
            template=answer.get("template", ""),
            system=answer.get("system") or None,
            parameters=parse_parameters(answer.get("parameters", "")),
            messages=tuple(answer.get("messages") or ()),
            details=answer.get("details") or {},
            model_info=answer.get("model_info") or {},
            capabilities=tuple(answer.get("capabilities") or ()),
            modified_at=answer.get("modified_at", ""),
            modelfile=str(answer.get("modelfile") or ""),
        )

    def ps(self) -> tuple[Running, ...]:
        return tuple(_running(entry) for entry in self._ask("GET", "/api/ps").get("models") or ())

    def load(
        self,
        name: str,
        keep_alive: str | int = -1,
        *,
        options: dict[str, Any] | None = None,
        embedding: bool = False,
    ) -> None:
        """Load without generating and keep for `keep_alive` (seconds or "5m"; -1 forever)."""
        body: dict[str, Any] = {"model": name, "keep_alive": keep_alive}
        if options:
            body["options"] = options
        if embedding:
            self._ask("POST", "/api/embed", {**body, "input": "."}, timeout=_LOAD_S)
        else:
            self._ask("POST", "/api/generate", {**body, "stream": False}, timeout=_LOAD_S)

    def unload(self, name: str) -> None:
        """Ask Ollama to let go; it answers at once and waits for requests in flight, so look at `ps` after."""
        self._ask("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False}, timeout=60.0)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = _QUICK_S
    ) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, json=body, timeout=timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
            raise self._unreachable(failure) from failure
        except httpx.TimeoutException as failure:
            hint = "Look at its log; a model that is loading or a full queue delays every answer."
            raise MigrateError(
                f"Ollama at {self.base_url} gave no answer to {path} in {timeout:g} s", hint=hint
            ) from failure
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            raise MigrateError(f"Talking to Ollama at {self.base_url}{path} failed: {failure}") from failure
        self.front = _front(response.headers)
        if response.status_code != httpx.codes.OK:
            raise self._refused(path, body, response)
        return self._object(path, response)

    def _unreachable(self, failure: httpx.TransportError) -> MigrateError:
        hint = (
            "Start it (`ollama serve`, `systemctl start ollama` or `docker start <its container>`), "
            "or say where it is with --ollama URL."
        )
        return MigrateError(f"Ollama does not answer at {self.base_url}", hint=hint, evidence=str(failure))

    def _refused(self, path: str, body: dict[str, Any] | None, response: httpx.Response) -> MigrateError:
        said = response.text.strip()[:500]
        if response.status_code in _GUARDED or "www-authenticate" in response.headers:
            return self._guarded(response, said)
        if response.status_code == httpx.codes.NOT_FOUND and body and "model" in body:
            hint = f"See what is installed with `ollama list`, or get it with `ollama pull {body['model']}`."
            return Refused(f"Ollama at {self.base_url} has no model {body['model']}", hint=hint, evidence=said)
        if response.status_code == httpx.codes.NOT_FOUND:
            hint = "Is something else listening there? Give the address of the Ollama server with --ollama URL."
            return MigrateError(f"{self.base_url}{path} is unknown to the server there", hint=hint, evidence=said)
        return Refused(f"Ollama answered {response.status_code} to {path}", evidence=said)

    def _guarded(self, response: httpx.Response, said: str) -> Guarded:
        server = response.headers.get("server", "")
        signs = [f"Server: {server}" if server else "no Server header"]
        named = [name for name in ("Via", "WWW-Authenticate") if name in response.headers]
        signs += [f"{name}: {response.headers[name]}" for name in named]
        hint = (
            "Give the address of Ollama behind the proxy with --ollama URL, or plan without asking it: --volume or "
            "--facts. What the proxy checks must then move in front of the gateway."
        )
        if response.status_code == httpx.codes.UNAUTHORIZED:
            hint = "If it asks for a key, such as this gateway's own: OLLAMA_API_KEY=KEY migrate … " + hint
        if response.status_code == httpx.codes.FORBIDDEN and not server:
            hint += " Ollama itself answers 403 to a host name that is not local while it listens on 127.0.0.1."
        told = f"{', '.join(signs)}\n{said}".strip()[:600]
        return Guarded(f"{self.base_url} answers {response.status_code}: not open to us", hint=hint, evidence=told)

    def _object(self, path: str, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        hint = "Is something else listening there? Give the address of the Ollama server with --ollama URL."
        said = response.text[:200]
        raise MigrateError(f"{self.base_url}{path} did not answer as Ollama does", hint=hint, evidence=said)


def _front(headers: httpx.Headers) -> str:
    told = f"{headers.get('server', '')} {headers.get('via', '')}".lower()
    return next((name for name in _PROXIES if name in told), "")


def _tag(entry: dict[str, Any]) -> Tag:
    return Tag(
        name=entry["name"],
        size=entry.get("size", 0),
        digest=entry.get("digest", ""),
        modified_at=entry.get("modified_at", ""),
        details=entry.get("details") or {},
        capabilities=tuple(entry.get("capabilities") or ()),
        remote_host=entry.get("remote_host") or None,
    )


def _running(entry: dict[str, Any]) -> Running:
    return Running(
        name=entry["name"],
        size=entry.get("size", 0),
        size_vram=entry.get("size_vram", 0),
        context_length=entry.get("context_length", 0),
        digest=entry.get("digest", ""),
        expires_at=entry.get("expires_at", ""),
    )


def parse_parameters(text: str) -> dict[str, Any]:
    """Read the `parameters` text of /api/show: one `name value` per line, strings quoted as in JSON or bare."""
    parameters: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, raw = line.strip().partition(" ")
        if not name:
            continue
        value = _value(raw.strip())
        if name == "stop":
            parameters.setdefault(name, []).append(str(value))
        else:
            parameters[name] = value
    return parameters


def _value(raw: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.strip('"')
