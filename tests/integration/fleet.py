"""Clients that never stop asking, through every kind of answer, and that judge what they got to the last byte."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

KINDS = (
    ("/v1/chat/completions", True), ("/v1/chat/completions", False), ("/api/chat", True), ("/api/chat", False),
    ("/api/generate", True), ("/v1/messages", True),
)
PROMPT = "Tell me about rivers."
HANG_S = 90.0


@dataclass
class Answer:
    """One request: monotonic seconds of its begin and end, and what came of it.

    `outcome`: complete, error (said in the protocol's form, or by a status), cut (HTTP itself says that the answer
    is not whole), refused (nobody took the connection), lost (ended quietly without its end, or never), doubled.
    """

    path: str
    stream: bool
    begun: float
    ended: float = 0.0
    outcome: str = "lost"
    said: str = ""
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Fleet:
    """`users` clients in a thread of their own, each of which asks the next thing as soon as it is answered."""

    def __init__(self, url: str, model: str, users: int, tokens: int = 12, pause_s: float = 0.0) -> None:
        self.url, self.model, self.users, self.tokens, self.pause_s = url, model, users, tokens, pause_s
        self.answers: list[Answer] = []
        self.open: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Let the running answers end."""
        self._stop.set()
        self._thread.join(HANG_S + 30)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        limit = aiohttp.ClientTimeout(total=HANG_S)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limit) as session:
            await asyncio.gather(*(self._user(session, number) for number in range(self.users)))

    async def _user(self, session: aiohttp.ClientSession, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            self.open.add(number)
            self.answers.append(await ask(session, self.url, self.model, *KINDS[turn % len(KINDS)], self.tokens))
            self.open.discard(number)
            turn += 1
            await asyncio.sleep(self.pause_s)

    def count(self) -> Counter[str]:
        return Counter(one.outcome for one in self.answers)

    def bad(self) -> list[Answer]:
        return [one for one in self.answers if one.outcome != "complete"]


def request(path: str, model: str, tokens: int, *, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "stream": stream}
    if path == "/api/generate":
        return body | {"prompt": PROMPT, "options": {"num_predict": tokens, "temperature": 0}}
    body |= {"messages": [{"role": "user", "content": PROMPT}]}
    if path == "/api/chat":
        return body | {"options": {"num_predict": tokens, "temperature": 0}}
    return body | {"max_tokens": tokens, "temperature": 0}


async def ask(session: aiohttp.ClientSession, url: str, model: str, path: str, stream: bool, tokens: int) -> Answer:
    """Ask once and judge the answer."""
    one = Answer(path, stream, time.monotonic())
    raw, began = b"", False
    try:
        async with session.post(url + path, json=request(path, model, tokens, stream=stream)) as answer:
            began = True
            async for piece in answer.content.iter_any():
                raw += piece
        judge(one, answer.status, raw)
    except aiohttp.ClientConnectorError as error:
        one.outcome, one.said = "refused", repr(error)
    except TimeoutError:
        one.outcome, one.said = "lost", f"nothing within {HANG_S} s after {raw[-200:]!r}"
    except aiohttp.ClientError as error:
        judge(one, 200, raw)
        if one.outcome in {"lost", "error"}:
            one.outcome = "error" if one.outcome == "error" else "cut" if began else "refused"
        one.said = one.said or repr(error)
    one.ended = time.monotonic()
    return one


def judge(one: Answer, status: int, raw: bytes) -> None:
    """Read what came as its protocol asks; `texts` are the pieces of the answer."""
    if status != 200:
        one.outcome, one.said = "error", f"{status}: {raw[:300]!r}"
        return
    ends, errors, names = 0, [], set()
    for value in values(one, raw):
        if ends and value is not None:
            one.outcome, one.said = "doubled", f"more after the end: {value}"
            return
        if value is None or value.get("done") is True or value.get("type") == "message_stop":
            ends += 1
        if value is None:
            continue
        if "error" in value:
            errors.append(str(value["error"]))
        names |= {value["id"]} if "id" in value else set()
        one.texts.append(text_of(value))
        if not one.stream and ("choices" in value or value.get("type") == "message"):
            ends += 1
    if len(names) > 1:
        one.outcome, one.said = "doubled", f"several answers in one: {names}"
    elif errors:
        one.outcome, one.said = "error", errors[0]
    elif ends == 1:
        one.outcome = "complete"
    else:
        one.said = f"no end in {raw[-300:]!r}"


def values(one: Answer, raw: bytes) -> list[dict[str, Any] | None]:
    """Every JSON value of an answer in order; None for [DONE]. What is cut in the middle is left out."""
    found: list[dict[str, Any] | None] = []
    for line in raw.split(b"\n"):
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            found.append(None)
        elif data.startswith(b"{"):
            try:
                found.append(json.loads(data))
            except ValueError:
                one.said = f"cut in {data[:80]!r}"
    return found


def text_of(value: dict[str, Any]) -> str:
    """The text of a piece, whatever the API."""
    for choice in value.get("choices") or []:
        part = choice.get("delta") or choice.get("message") or {}
        return str(part.get("content") or "")
    if isinstance(value.get("message"), dict) and "content" in value["message"] and "role" in value["message"]:
        content = value["message"]["content"]
        return content if isinstance(content, str) else ""
    if isinstance(value.get("delta"), dict):
        return str(value["delta"].get("text") or "")
    if isinstance(value.get("content"), list):
        return "".join(str(part.get("text", "")) for part in value["content"])
    return str(value.get("response") or "")
