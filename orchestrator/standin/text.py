"""What the pretended models say: words that follow from the prompt alone, so both stand-ins agree.

Greedy text depends on the prompt only; sampled text on prompt and seed (no seed: never twice the same).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
from collections.abc import Iterator
from typing import Any

_PIECE = re.compile(r"<\|\w*\|>|\s|\w{1,3}|[^\w\s]")
_VOCABULARY = 32_000
_ONSETS = ("b", "br", "d", "f", "fl", "g", "h", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("", "", "n", "r", "l", "s", "m", "t")
DIMENSIONS = 256


def tokens(text: str) -> list[str]:
    """Split text as the pretended tokenizer does: markers whole, blanks and signs one by one, words in threes."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    return len(tokens(text))


def plain(content: Any) -> str:
    """Return the text of a message's content, which may be a string or a list of parts."""
    if isinstance(content, list):
        parts = (p.get("text") or p.get("content") or "" for p in content if isinstance(p, dict))
        return "".join(str(p) for p in parts)
    return "" if content is None else str(content)


def render(messages: list[dict[str, Any]], tools: Any = None) -> str:
    """Return the prompt that the pretended chat template makes of a conversation.

    STANDIN_TURN_END is what ends a turn, as `<|end|>` in the template of the tiny model; by default nothing does.
    """
    end = os.environ.get("STANDIN_TURN_END", "")
    lines = []
    if tools:
        lines.append(f"<|tools|>{json.dumps(tools, sort_keys=True)}")
    for message in messages:
        called = message.get("tool_calls")
        extra = json.dumps([c.get("function", {}).get("name") for c in called if isinstance(c, dict)]) if called else ""
        lines.append(f"<|{message.get('role', '')}|>{plain(message.get('content'))}{extra}{end}")
    return "".join(lines) + "<|assistant|>"


def asked_tool(messages: list[dict[str, Any]], tools: Any) -> dict[str, Any] | None:
    """Return the function that the pretended model calls: the first one that the user's last message names."""
    if not messages or messages[-1].get("role") != "user" or not isinstance(tools, list):
        return None
    said = re.findall(r"\w+", plain(messages[-1].get("content")))
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return next((one for one in functions if isinstance(one, dict) and one.get("name") in said), None)


def prompt_tokens(rendered: str) -> int:
    """Count a rendered prompt's tokens."""
    return count(rendered)


class Vocabulary:
    """Numbers for tokens, handed out as they are first met: so a number can be read back."""

    def __init__(self) -> None:
        self._tokens: dict[int, str] = {}

    def number(self, token: str) -> int:
        """Return a token's number; it depends on the token alone, but where two tokens meet."""
        number = sum(token.encode()) % _VOCABULARY
        while self._tokens.setdefault(number, token) != token:
            number = (number + 1) % _VOCABULARY
        return number

    def token(self, number: int) -> str:
        return self._tokens.get(number, chr(33 + number % 90))


VOCABULARY = Vocabulary()


def _random(*parts: object) -> random.Random:
    seed = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return random.Random(seed)


def source(prompt: str, *, seed: int | None, greedy: bool) -> random.Random:
    """Return the randomness behind one answer."""
    if greedy:
        return _random("greedy", prompt)
    if seed is None:
        return random.Random()
    return _random("sampled", seed, prompt)


def _word(rng: random.Random) -> str:
    syllables = rng.choice((1, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))


def length_range() -> tuple[int, int]:
    """Return how many tokens an answer has when nothing cuts it: STANDIN_TEXT_TOKENS, `24-96` or `300`."""
    low, _, high = os.environ.get("STANDIN_TEXT_TOKENS", "24-96").partition("-")
    return int(low), int(high or low)


def answer(rng: random.Random, at_least: int = 0) -> Iterator[str]:
    """Yield the tokens of one answer up to its natural end, or `at_least` so many."""
    length = max(rng.randint(*length_range()), at_least)
    for index in range(length):
        word = _word(rng)
        yield word if index == 0 else f" {word}"


def thoughts(prompt: str) -> list[str]:
    """Return the tokens of the thinking before an answer."""
    rng = _random("thinking", prompt)
    return [_word(rng) if i == 0 else f" {_word(rng)}" for i in range(rng.randint(12, 24))]


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a unit vector; texts that share words point in similar directions."""
    total = [0.0] * dimensions
    for word in [text, *re.findall(r"\w+", text.lower())]:
        rng = _random("vector", word)
        for i in range(dimensions):
            total[i] += rng.gauss(0, 1)
    return unit(total)


def unit(values: list[float]) -> list[float]:
    norm = sum(v * v for v in values) ** 0.5 or 1.0
    return [v / norm for v in values]


_STEP = 1.5     # between the log-probabilities of two neighbours in rank


def logprob(token: str, rank: int = 0) -> float:
    """Return a steady pretended log-probability of a token that stands at this rank."""
    return -(0.05 + _random("logprob", token).random() + _STEP * rank)


def drawn(temperature: float, number: int) -> int:
    """Return the rank that sampling at a temperature takes among the `number` likeliest tokens."""
    if temperature <= 0 or number < 2:
        return 0
    weights = [math.exp(-_STEP * rank / temperature) for rank in range(number)]
    return random.choices(range(number), weights)[0]


def rivals(token: str, number: int, rank: int = 0) -> list[tuple[str, float]]:
    """Return the `number` likeliest tokens with their log-probabilities; the chosen one stands at `rank`."""
    rng = _random("rivals", token)
    first = logprob(token)
    listed = [f" {_word(rng)}" for _ in range(1, number)]
    listed.insert(rank, token)
    return [(word, first - _STEP * at) for at, word in enumerate(listed)][:number]
