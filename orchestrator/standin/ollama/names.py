"""Model names as Ollama reads them: `[host/][namespace/]model[:tag]`, without regard to case."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOST = "registry.ollama.ai"
NAMESPACE = "library"
TAG = "latest"
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True)
class Name:
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def valid(self) -> bool:
        return bool(
            _HOST.fullmatch(self.host)
            and _NAMESPACE.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    @property
    def key(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}/{self.tag}".lower()

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The shortest spelling, always with a tag."""
        if self.host != HOST:
            return self.full
        prefix = "" if self.namespace == NAMESPACE else f"{self.namespace}/"
        return f"{prefix}{self.model}:{self.tag}"


def parse(text: str) -> Name:
    """Split a name and fill in the defaults; the result may be invalid."""
    head, slash, last = text.rpartition("/")
    model, _, tag = last.partition(":")
    host, _, namespace = head.rpartition("/") if slash else ("", "", "")
    return Name(host or HOST, namespace or NAMESPACE, model, tag or TAG)
