"""What callers are known to use: only a difference that somebody would notice is a failure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.facts import Facts

_PLACES = 5
# Listings and health probes come with every client library and say nothing of what is asked.
_ASKING = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/")


@dataclass(frozen=True, slots=True)
class Usage:
    """`paths`: path -> requests seen, None where nobody looked. `source`: where this was seen.

    `uses`: groups that the stack file says are needed, None where it says nothing. `longest`: tokens of the longest
    prompt seen. `places`: path -> where in source or configuration it is asked, `FILE:LINE`.
    """

    paths: dict[str, int] | None = None
    uses: tuple[str, ...] | None = None
    longest: int | None = None
    source: str = ""
    places: dict[str, list[str]] = field(default_factory=dict)

    def path(self, path: str) -> bool | None:
        """Return whether somebody asks this path (one that ends in `/`: anything below); None if unknown."""
        if self.paths is None:
            return None
        return any(one == path or (path.endswith("/") and one.startswith(path)) for one in self.paths)

    def group(self, group: str) -> bool | None:
        """Return whether the stack file names the group; None where it says nothing."""
        return None if self.uses is None else group in self.uses

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "uses": None if self.uses is None else list(self.uses)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        uses = data.get("uses")
        return cls(data.get("paths"), None if uses is None else tuple(uses), data.get("longest"),
                   str(data.get("source") or ""), data.get("places") or {})  # fmt: skip

    def who(self, paths: Iterable[str]) -> list[str]:
        """Return the places that ask one of these paths."""
        return sorted({place for path in paths for place in self.places.get(path, ())})[:_PLACES]


def usage_of(facts: Facts | None, uses: Sequence[str] | None = None) -> Usage:
    """Return what the access log and a scan for callers tell; nothing seen is unknown, not unused."""
    declared = None if uses is None else tuple(uses)
    if facts is None:
        return Usage(uses=declared)
    traffic = facts.traffic
    paths = {path: count for path, count in traffic.paths.items() if path.startswith(_ASKING)}
    sources = [traffic.origin or traffic.source] if paths else []
    places: dict[str, list[str]] = {}
    for caller in facts.callers:
        for path in _spelled(caller.text):
            places.setdefault(path, []).append(f"{caller.path}:{caller.line}")
    if paths and places:    # source that asks a path which the log has not seen yet; alone it may not be all of it
        paths = {**dict.fromkeys(places, 0), **paths}
        sources.append("the scan for callers")
    peak = traffic.prompt_tokens.peak
    return Usage(paths or None, declared, None if peak is None else int(peak), ", ".join(sources), places)


def _spelled(text: str) -> list[str]:
    known = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions",
             "/v1/embeddings", "/v1/responses", "/v1/messages")  # fmt: skip
    return [path for path in known if path in text and f"{path}dings" not in text]
