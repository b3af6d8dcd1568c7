"""What one event of an engine says, whatever the endpoint, and the sum of all of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from orchestrator.adapter.wire import JSON, dumps


@dataclass(slots=True)
class Call:
    """A tool call; the engine sends the arguments as text, often in parts."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""

    def as_object(self) -> JSON:
        """Return the arguments as an object; text that is no JSON object is kept under `raw`."""
        try:
            value = json.loads(self.arguments or "{}")
            json.dumps(value, allow_nan=False)      # Python reads NaN, which no client does
        except (ValueError, RecursionError):
            value = None
        return value if isinstance(value, dict) else {"raw": self.arguments}

    def as_text(self) -> str:
        """Return the arguments as Ollama writes them; what is no JSON object stays as it came."""
        value = self.as_object()
        return self.arguments if "raw" in value and value["raw"] == self.arguments else dumps(value)


@dataclass(slots=True)
class Piece:
    """One increment of an answer."""

    content: str = ""
    thinking: str = ""
    calls: list[JSON] = field(default_factory=list)
    logprobs: list[JSON] = field(default_factory=list)
    finish: str | None = None
    usage: JSON | None = None
    prompt_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    @property
    def says_something(self) -> bool:
        return bool(self.content or self.thinking or self.calls or self.logprobs)

    @property
    def is_plain(self) -> bool:
        """Tell whether it says content alone: numbers of tokens may be with it."""
        return not (self.thinking or self.calls or self.logprobs or self.finish or self.usage or self.prompt_ids)


class CallCollector:
    """Puts the parts of tool calls together; a call is finished when the next begins or the answer ends."""

    def __init__(self) -> None:
        self._open: Call | None = None
        self.finished: list[Call] = []

    @property
    def open(self) -> bool:
        return self._open is not None

    def feed(self, parts: list[JSON]) -> list[Call]:
        """Return the calls that these parts finish."""
        done: list[Call] = []
        for part in parts:
            index = part.get("index", 0)
            if self._open is None or self._open.index != index:
                done += self.flush()
                self._open = Call(index)
            function = part.get("function") or {}
            self._open.id = self._open.id or part.get("id") or ""
            self._open.name += function.get("name") or ""
            self._open.arguments += function.get("arguments") or ""
        return done

    def flush(self) -> list[Call]:
        """Return the call that is still open, at the end of the answer."""
        last = [self._open] if self._open else []
        self._open = None
        self.finished += last
        return last


@dataclass(slots=True)
class Tally:
    """The sum of an answer: counts, moments (ns, monotonic) and, when it is not streamed, the texts."""

    started: int
    sent: int = 0
    first: int = 0
    last: int = 0
    finish: str | None = None
    pieces: int = 0
    usage: JSON | None = None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    logprobs: list[JSON] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    def add(self, piece: Piece, now: int) -> None:
        """Count a piece; texts are kept by `keep`, so that a stream does not grow."""
        if piece.says_something:
            self.first = self.first or now
            self.pieces += 1
        self.last = now
        self.finish = piece.finish or self.finish
        self.usage = piece.usage or self.usage
        self.prompt_ids = self.prompt_ids or piece.prompt_ids
        if piece.token_ids:
            self.token_ids += piece.token_ids

    def begin_again(self) -> None:
        """Forget a stream that said nothing."""
        self.sent, self.usage, self.finish, self.prompt_ids, self.token_ids = 0, None, None, [], []

    def word(self, now: int, number: int | None) -> None:
        """Count a piece that is one word and nothing else."""
        self.first = self.first or now
        self.last = now
        self.pieces += 1
        if number is not None:
            self.token_ids.append(number)

    def keep(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> None:
        """Remember what a single, whole answer will contain."""
        self.texts.append(content)
        self.thoughts.append(thinking)
        self.calls += calls
        self.logprobs += logprobs

    @property
    def content(self) -> str:
        return "".join(self.texts)

    @property
    def thinking(self) -> str:
        return "".join(self.thoughts)

    @property
    def prompt_tokens(self) -> int:
        return int((self.usage or {}).get("prompt_tokens") or 0)

    @property
    def tokens(self) -> int:
        """Generated tokens; when we cut the stream ourselves the engine's last count, else the pieces."""
        count = (self.usage or {}).get("completion_tokens")
        return int(count) if count is not None else self.pieces
