"""People who use the model while it migrates: the real `openai` and `ollama` clients, both APIs, without a pause.

Writes one JSON line per request to the file named last. SIGTERM lets running answers end, then leaves.
Every failure is counted as it comes: no client retries.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx
import ollama
import openai

QUESTIONS = (
    "Why is the sky blue?", "Name three rivers.", "What is a monad?", "Say hello in French.",
    "How do tides work?", "Write a haiku about rain.", "What is 17 times 23?", "Who was Ada Lovelace?",
)
TURNS = 3
TIMEOUT_S = 120.0


class Book:
    """Collects results of all users in one file."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, record: dict[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()


class User(threading.Thread):
    """One person: opens a client, holds a short conversation, closes it, and starts again."""

    def __init__(self, number: int, url: str, model: str, tokens: int, book: Book, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(number)
        self.api = "openai" if number % 2 else "ollama"
        self.url, self.model, self.tokens = url, model, tokens
        self.book, self.stop = book, stop
        self.number = number

    def run(self) -> None:
        for visit in itertools.count(1):
            if self.stop.is_set():
                return
            talk = self._openai if self.api == "openai" else self._ollama
            # No two people say quite the same, and conversations that begin alike would all take one side.
            messages = [{"role": "system", "content": f"Person {self.number}, visit {visit}."}]
            with talk() as ask:
                for turn in range(TURNS):
                    if self.stop.is_set():
                        return
                    messages.append({"role": "user", "content": self.random.choice(QUESTIONS)})
                    answer = self._one(ask, messages, stream=(turn + self.number) % 3 != 0)
                    messages.append({"role": "assistant", "content": answer or "(nothing)"})
            self.stop.wait(self.random.uniform(0.02, 0.1))

    def _one(self, ask: Callable[..., tuple[str, str]], messages: list[dict[str, str]], *, stream: bool) -> str:
        started, text, error = time.time(), "", ""
        try:
            outcome, text = ask(messages, stream)
        except (httpx.ConnectError, ConnectionError, openai.APIConnectionError) as failure:
            outcome, error = "refused", repr(failure)
        except (httpx.HTTPError, openai.APITimeoutError) as failure:
            outcome, error = "truncated", repr(failure)
        except (openai.APIError, ollama.ResponseError) as failure:
            outcome, error = "error", repr(failure)
        record = {"at": started, "end": time.time(), "api": self.api, "stream": stream, "outcome": outcome}
        self.book.write(record | ({"error": error[:300]} if error else {}))
        return text

    def _openai(self) -> Any:
        return _OpenAI(self.url, self.model, self.tokens)

    def _ollama(self) -> Any:
        return _Ollama(self.url, self.model, self.tokens)


class _OpenAI:
    """A conversation through /v1 with the official client."""

    def __init__(self, url: str, model: str, tokens: int) -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=TIMEOUT_S)
        self.model, self.tokens = model, tokens

    def __enter__(self) -> Callable[..., tuple[str, str]]:
        return self.ask

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, messages: list[Any], stream: bool) -> tuple[str, str]:
        answer: Any = self.client.chat.completions.create(
            model=self.model, messages=messages, max_tokens=self.tokens, temperature=0, stream=stream
        )
        if not stream:
            choice = answer.choices[0]
            return "complete" if choice.finish_reason else "truncated", choice.message.content or ""
        text, finished = "", False
        for chunk in answer:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finished = finished or bool(choice.finish_reason)
        return "complete" if finished else "truncated", text


class _Ollama:
    """A conversation through /api/chat with the official client."""

    def __init__(self, url: str, model: str, tokens: int) -> None:
        self.client = ollama.Client(host=url, timeout=TIMEOUT_S)
        self.model, self.tokens = model, tokens

    def __enter__(self) -> Callable[..., tuple[str, str]]:
        return self.ask

    def __exit__(self, *_: object) -> None:
        self.client._client.close()  # noqa: SLF001 - the client has no close of its own

    def ask(self, messages: list[Any], stream: bool) -> tuple[str, str]:
        options = {"num_predict": self.tokens, "temperature": 0}
        answer: Any = self.client.chat(model=self.model, messages=messages, stream=stream, options=options)
        if not stream:
            return "complete" if answer.done else "truncated", answer.message.content or ""
        text, done = "", False
        for chunk in answer:
            text += chunk.message.content or ""
            done = done or bool(chunk.done)
        return "complete" if done else "truncated", text


def main() -> None:
    """Run the users until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("results", type=Path)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=24)
    given = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with given.results.open("a", encoding="utf-8") as file:
        book = Book(file)
        users = [User(n, given.url, given.model, given.tokens, book, stop) for n in range(given.users)]
        for user in users:
            user.start()
        while not stop.wait(0.5):
            continue
        for user in users:
            user.join(timeout=TIMEOUT_S)


if __name__ == "__main__":
    main()
