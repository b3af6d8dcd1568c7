"""What you see. stdout carries the answer, stderr the talk; colour only on a terminal, never colour alone."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console as Rich
from rich.status import Status
from rich.text import Text

from orchestrator.errors import MigrateError
from orchestrator.events import Happening, Kind

SIGNS = {
    Kind.PHASE: ("", "bold"),
    Kind.START: ("·", "dim"),
    Kind.DONE: ("✓", "green"),
    Kind.SKIP: ("=", "dim"),
    Kind.NOTE: (" ", ""),
    Kind.WARN: ("!", "yellow"),
    Kind.FAIL: ("✗", "red"),
    Kind.VERDICT: ("≈", "cyan"),
}
VERDICT_SIGNS = {"pass": ("✓", "green"), "fail": ("✗", "red"), "inconclusive": ("?", "yellow")}
REPEAT_S = 30.0     # without a terminal, how often a wait is repeated


@dataclass
class Console:
    """Renders events: `mode` is tty, plain, json or quiet; `json_answer` makes the answer one JSON object."""

    mode: str = "auto"
    json_answer: bool = False
    no_color: bool = False
    verbose: bool = False
    _status: Status | None = None
    _last_wait: dict[str, tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        color: bool | None = True if self.no_color else None
        self.err = Rich(stderr=True, no_color=color, highlight=False, soft_wrap=True)
        self.out = Rich(no_color=color, highlight=False, soft_wrap=True)
        if self.mode == "auto":
            self.mode = "tty" if self.err.is_terminal and not self.err.is_dumb_terminal else "plain"

    def emit(self, event: Happening) -> None:
        """Show one event."""
        if self.mode == "json":
            self._json(event)
        elif event.kind is Kind.WAIT:
            self._wait(event)
        elif self.mode != "quiet" or event.kind in (Kind.WARN, Kind.FAIL):
            self._line(event)

    def answer(self, text: str, data: dict[str, Any]) -> None:
        """Print the answer of a command on stdout: text for people, or one JSON object."""
        self.done()
        if self.json_answer:
            print(json.dumps({"schema": 1, **data}, sort_keys=True))  # noqa: T201
        elif text:
            self.out.print(Text(text))

    def error(self, error: MigrateError) -> None:
        """Show what happened, the evidence, and what to do next, most important last."""
        self.done()
        if self.mode == "json" or self.json_answer:
            record = {"schema": 1, "event": "error", "message": error.message, "evidence": error.evidence,
                      "hint": error.hint, "exit_code": int(error.exit_code)}
            print(json.dumps(record, sort_keys=True), file=sys.stderr)  # noqa: T201
            return
        for line in error.evidence.splitlines():
            self.err.print(Text(f"  {line}", style="dim"))
        self.err.print(Text("error: ", style="bold red") + Text(error.message, style=""))
        if error.hint:
            self.err.print(Text("next:  ", style="bold") + Text(error.hint, style=""))

    def done(self) -> None:
        """Take the status line away."""
        if self._status:
            self._status.stop()
            self._status = None

    def _line(self, event: Happening) -> None:
        sign, style = SIGNS[event.kind]
        if event.kind is Kind.VERDICT:
            sign, style = VERDICT_SIGNS[event.data["result"]]
        if event.kind is Kind.PHASE:
            self.done()
            self.err.print(Text(f"\n{event.subject}", style="bold"), Text(event.text, style="dim"))
            return
        if event.kind is Kind.START and self.mode == "tty":
            self._show_status(f"{event.subject}  {event.text}")
            return
        if event.kind in (Kind.DONE, Kind.FAIL, Kind.SKIP):
            self.done()
        seconds = event.data.get("seconds")
        took = f"  {seconds:g} s" if isinstance(seconds, int | float) and seconds >= 1 else ""
        self.err.print(
            Text(f"{sign} ", style=style), Text(event.subject), Text(f" {event.text}", style="dim"),
            Text(took, style="dim"), sep="",
        )

    def _wait(self, event: Happening) -> None:
        text = f"{event.subject}  {event.text}"
        if self.mode == "tty":
            self._show_status(text)
            return
        reason = str(event.data.get("reason", event.text))
        last, at = self._last_wait.get(event.subject, ("", 0.0))
        if self.mode == "plain" and (reason != last or time.monotonic() - at >= REPEAT_S):
            self._last_wait[event.subject] = (reason, time.monotonic())
            self.err.print(Text(f"… {text}", style="dim"))

    def _show_status(self, text: str) -> None:
        if self._status is None:
            self._status = self.err.status(Text(text), spinner="dots")
            self._status.start()
        else:
            self._status.update(Text(text))

    def _json(self, event: Happening) -> None:
        record = {"schema": 1, "event": str(event.kind), "subject": event.subject, "text": event.text,
                  "at": round(time.time(), 3), **({"data": event.data} if event.data else {})}
        print(json.dumps(record, sort_keys=True), file=sys.stderr, flush=True)  # noqa: T201
