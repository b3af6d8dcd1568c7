"""Stop words beyond the four that vLLM accepts: found in the stream, also across pieces."""

from __future__ import annotations

ENGINE_STOPS = 4


class StopScanner:
    """Lets text through up to the first stop word.

    Text that may be the beginning of a stop word is held back until it is decided.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Return the text that may be sent now."""
        if not self._stops:
            return text
        if self.stopped:
            return ""
        seen = self._held + text
        cuts = [at for at in (seen.find(stop) for stop in self._stops) if at >= 0]
        if cuts:
            self.stopped, self._held = True, ""
            return seen[: min(cuts)]
        keep = self._undecided(seen)
        self._held = seen[len(seen) - keep :] if keep else ""
        return seen[: len(seen) - keep]

    def flush(self) -> str:
        """Return what was held back, at the end of the stream."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, seen: str) -> int:
        """Return the length of the longest tail that begins a stop word."""
        for size in range(min(len(seen), max(map(len, self._stops)) - 1), 0, -1):
            tail = seen[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0
