"""What callers are known to use: only a difference that somebody would notice is a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.facts import Facts

# Listings and health probes come with every client library and say nothing of what is asked.
_ASKING = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/")


@dataclass(frozen=True, slots=True)
class Usage:
    """`paths`: path -> requests seen, None where nobody looked. `source`: where this was seen.

    `uses`: groups that the stack file says are needed, None where it says nothing. `longest`: tokens of the longest
    prompt seen.
    """

    paths: dict[str, int] | None = None
    uses: tuple[str, ...] | None = None
    longest: int | None = None
    source: str = ""

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
                   str(data.get("source") or ""))  # fmt: skip


def usage_of(facts: Facts | None, uses: Sequence[str] | None = None) -> Usage:
    """Return what the access log and a scan for callers tell; nothing seen is unknown, not unused."""
    declared = None if uses is None else tuple(uses)
    if facts is None:
        return Usage(uses=declared)
    traffic = facts.traffic
    paths = {path: count for path, count in traffic.paths.items() if path.startswith(_ASKING)}
    sources = [traffic.origin or traffic.source] if paths else []
    for caller in facts.callers if paths else ():
        for path in _spelled(caller.text):
            paths[path] = paths.get(path, 0)
            sources = list(dict.fromkeys([*sources, "the scan for callers"]))
    peak = traffic.prompt_tokens.peak
    return Usage(paths or None, declared, None if peak is None else int(peak), ", ".join(sources))


def _spelled(text: str) -> list[str]:
    known = ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions",
             "/v1/embeddings", "/v1/responses", "/v1/messages")  # fmt: skip
    return [path for path in known if path in text and f"{path}dings" not in text]
