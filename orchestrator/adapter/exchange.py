"""One question, one answer: the engine's stream turned into the client's, to its end or its error."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Protocol

from orchestrator.adapter import engine, heard
from orchestrator.adapter.ask import Ask
from orchestrator.adapter.overflow import corrected
from orchestrator.adapter.pieces import Call, CallCollector, Piece, Tally
from orchestrator.adapter.quick import Shape, learn
from orchestrator.adapter.refusals import EngineFault
from orchestrator.adapter.sse import EventParser
from orchestrator.adapter.stops import StopScanner
from orchestrator.adapter.wire import JSON, escaped

_DONE = b"[DONE]"
CORRECTIONS = 2


class Answer(Protocol):
    """How an answer looks to the client; all methods return text that ends where the framing ends."""

    stream_type: str
    whole_type: str

    def piece(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str: ...
    def word(self, said: str) -> str | None:
        """Return a piece that is content alone, given as JSON writes it; None when `piece` must say it."""

    def end(self, tally: Tally) -> str: ...
    def whole(self, tally: Tally) -> str: ...
    def error(self, message: str) -> str: ...


class Translator:
    """Feeds on the engine's bytes and returns the client's text. No I/O."""

    def __init__(self, question: Ask, answer: Answer, tally: Tally) -> None:
        self._answer = answer
        self._tally = tally
        self._keep = not question.stream
        self._parser = EventParser()
        self._calls = CallCollector()
        self._scan = StopScanner(question.scan)
        self._scan_thoughts = StopScanner(question.scan)
        self._quick = not question.scan
        self._shape: Shape | None = None
        self.done = False
        self.heard_all = False  # the engine has said its last word: its connection can be used again
        self.fault: EngineFault | None = None

    def feed(self, chunk: bytes, now: int) -> str:
        """Return what these bytes add; an error frame ends it and is left in `fault`."""
        out: list[str] = []
        try:
            events = self._parser.feed(chunk)
        except ValueError as error:
            self.fault = EngineFault(502, f"{heard.UNREADABLE}: {error}")
            return ""
        for event in events:
            if self._shape and (text := self._word(self._shape, event, now)) is not None:
                out.append(text)
                continue
            if event == _DONE:
                self.heard_all = True
                out.append(self._close())
                break
            try:
                piece = heard.parse(event)
                out.append(self._piece(piece, now))
                if self._quick:
                    self._shape = learn(event, piece) or self._shape
            except EngineFault as fault:
                self.fault = fault
            if self.done or self.fault:
                break
        return "".join(out)

    def _word(self, shape: Shape, event: bytes, now: int) -> str | None:
        """Return what an event adds that is one word and nothing else; None when it must be parsed."""
        found = shape.word(event)
        if not found or not found[0] or self._calls.open:
            return None
        said, number = found
        text: str | None = ""
        if self._keep:
            self._tally.texts.append(json.loads(f'"{said}"') if "\\" in said else said)
        else:
            text = self._answer.word(escaped(said))
        if text is not None:
            self._tally.word(now, number)
        return text

    def expect_done(self) -> None:
        """Raise EngineFault when the engine reported one or its stream ended before its answer did."""
        if not self.done:
            raise self.fault or EngineFault(502, "unexpected EOF")

    def _piece(self, piece: Piece, now: int) -> str:
        self._tally.add(piece, now)
        content = self._scan.feed(piece.content) if piece.content else ""
        thinking = self._scan_thoughts.feed(piece.thinking) if piece.thinking else ""
        calls = self._calls.feed(piece.calls) if piece.calls else []
        text = self._say(content, thinking, calls, piece.logprobs)
        if self._scan.stopped or self._scan_thoughts.stopped:
            self._tally.finish = "stop"
            text += self._close()
        return text

    def _close(self) -> str:
        """Send what was held back and the end."""
        self.done = True
        content, thinking, calls = self._scan.flush(), self._scan_thoughts.flush(), self._calls.flush()
        text = self._say(content, thinking, calls, [])
        return text if self._keep else text + self._answer.end(self._tally)

    def _say(self, content: str, thinking: str, calls: list[Call], logprobs: list[JSON]) -> str:
        if not (content or thinking or calls or logprobs):
            return ""
        if self._keep:
            self._tally.keep(content, thinking, calls, logprobs)
            return ""
        return self._answer.piece(content, thinking, calls, logprobs)


async def converse(engines: engine.Engines, question: Ask, answer: Answer, tally: Tally) -> AsyncGenerator[str]:
    """Yield the client's text; raises EngineFault, also when the stream ends without its terminator."""
    for attempt in range(CORRECTIONS + 1):
        try:
            async with engines.stream(question.route.url + question.path, question.body) as response:
                tally.sent = time.monotonic_ns()
                translator = Translator(question, answer, tally)
                async for chunk in engine.events(response):
                    text = translator.feed(chunk, time.monotonic_ns())
                    if text:
                        yield text
                    if translator.done or translator.fault:
                        break
                translator.expect_done()
                if not question.stream:
                    yield answer.whole(tally)
                if translator.heard_all:
                    await engine.finish(response)
                return
        except EngineFault as fault:
            if attempt == CORRECTIONS or tally.first or not await corrected(engines, question, fault):
                raise
            tally.begin_again()
