"""The door to an OpenAI-compatible server: vLLM itself, or either side through the gateway's forced-side route."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import httpx

from orchestrator.errors import MigrateError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One line of /v1/models; `root` is what vLLM was started with (absent on Ollama)."""

    id: str
    root: str | None
    max_model_len: int | None


class AnswerError(MigrateError):
    """The server answered, and the answer is an error; `status` is 0 where the answer was not readable."""

    def __init__(self, message: str, *, status: int, evidence: str = "") -> None:
        super().__init__(message, evidence=evidence)
        self.status = status


class Unreachable(MigrateError):
    """No answer: refused, broken or late."""


class OpenAI:
    """Synchronous; `headers` carries what the door asks for, such as the control door's token."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        self._http = httpx.Client(
            base_url=self.base_url, headers=headers, timeout=timeout, transport=transport, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> None:
        """Raise AnswerError unless /health answers 200; vLLM's answer has no body."""
        self._request("GET", "/health")

    def models(self) -> tuple[ServedModel, ...]:
        entries = self._json("GET", "/v1/models").get("data") or ()
        return tuple(ServedModel(str(e.get("id")), e.get("root"), e.get("max_model_len")) for e in entries)

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One answer as a whole; `stream` belongs to the stream transport."""
        return self._json("POST", "/v1/chat/completions", {**body, "stream": False})

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/embeddings", body)

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self._request(method, path, body)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        raise AnswerError(f"{path} did not answer with a JSON object", status=0, evidence=response.text[:300])

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            evidence = f"{type(failure).__name__}: {failure}"
            raise Unreachable(f"No answer from {self.base_url}{path}", evidence=evidence) from failure
        if response.status_code != httpx.codes.OK:
            said = error_text(response.content)
            raise AnswerError(f"{path} answered {response.status_code}", status=response.status_code, evidence=said)
        return response


def error_text(body: bytes) -> str:
    """The message of an error answer in OpenAI's or Ollama's shape, else the start of the body."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body[:500].decode("utf-8", "replace").strip()
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
