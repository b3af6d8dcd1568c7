"""Server-sent events from a byte stream that may be cut anywhere."""

from __future__ import annotations

LARGEST = 8 * 2**20     # bytes of an event that does not end


class EventParser:
    """Collects bytes and returns the data of each finished event.

    Lines are split as bytes, so a cut inside a UTF-8 character or between CR and LF does no harm.
    Comments and fields other than `data` are skipped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk finishes; raises ValueError for one that grows for ever."""
        if not self._rest and not self._data and (whole := _whole(chunk)):
            return whole
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events: list[bytes] = []
        for raw in lines:
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                value = line[5:]
                self._data.append(value[1:] if value.startswith(b" ") else value)
        if len(self._rest) + sum(map(len, self._data)) > LARGEST:
            raise ValueError("an event is too large")
        return events


def _whole(chunk: bytes) -> list[bytes] | None:
    """Return the events of a chunk that holds whole ones with one line of data each: nearly every chunk does."""
    if not chunk.startswith(b"data: ") or not chunk.endswith(b"\n\n") or b"\r" in chunk:
        return None
    events = chunk[6:-2].split(b"\n\ndata: ")
    return events if chunk.count(b"\n") == 2 * len(events) else None
