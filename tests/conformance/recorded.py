"""Recordings of real servers as cases: what was sent, and what came back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
DEFAULT = Path(__file__).parent / "recordings"


@dataclass(frozen=True)
class Case:
    """One request and the real answer; `body` is the answer's whole text."""

    name: str
    server: str  # ollama | vllm
    method: str
    path: str
    headers: dict[str, str]
    sent: bytes
    status: int
    content_type: str | None
    body: str

    @property
    def request(self) -> Json:
        """The sent JSON object, empty when it is none."""
        try:
            value = json.loads(self.sent)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def answer(self) -> Any:
        """The answer's JSON, or None."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def folder() -> Path:
    return Path(os.environ.get("CONFORMANCE_RECORDINGS") or DEFAULT)


def load() -> list[Case]:
    """Return all cases below the folder; files that hold no single request are experiments and left out."""
    found = []
    for path in sorted(folder().rglob("*.json")):
        case = parse(path.stem, json.loads(path.read_text()))
        if case:
            found.append(case)
    return found


def parse(name: str, recorded: Any) -> Case | None:
    if not isinstance(recorded, dict) or not isinstance(recorded.get("request"), dict):
        return None
    request = recorded["request"]
    answer = recorded.get("response", recorded)
    if "method" not in request or not isinstance(answer, dict) or not isinstance(answer.get("status"), int):
        return None
    headers = {k.lower(): v for k, v in dict(answer.get("headers") or {}).items()}
    return Case(
        name=name,
        server="vllm" if "response" in recorded else "ollama",
        method=request["method"],
        path=request["path"],
        headers=dict(request.get("headers") or {}),
        sent=_bytes(request.get("raw_body") if request.get("raw_body") is not None else request.get("body")),
        status=answer["status"],
        content_type=headers.get("content-type"),
        body=_text(answer),
    )


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _text(answer: Json) -> str:
    if "raw_lines" in answer:
        return "\n".join(answer["raw_lines"]) + "\n"
    if "json" in answer:
        return json.dumps(answer["json"])
    body = answer.get("body", answer.get("text"))
    return "".join(body) if isinstance(body, list) else body or ""
