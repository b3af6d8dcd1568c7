"""The grammar of Ollama's names: `[host/][namespace/]model[:size[-variant][-version][-quant]][@digest]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.names import canonical

_SIZE = re.compile(r"^(\d+x\d+(?:\.\d+)?b|e?\d+(?:\.\d+)?[bmk])(?:-a\d+(?:\.\d+)?[bm])?(?=-|$)")
_QUANT = re.compile(
    r"(?:^|-)(q[2-8]_(?:0|1|k)(?:_(?:s|m|l|xl))?|iq[1-4]_(?:xxs|xs|s|m|nl)|tq[12]_0|fp16|f16|bf16|fp32|f32"
    r"|mxfp4|mxfp8|nvfp4|int4|int8|fp8)$"
)
_CLOUD = re.compile(r"(?:^|-)cloud$")
_DIGEST = re.compile(r"@sha256.*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tag:
    """One name taken apart, in lower case; `size` is what selects a model, `words` is the rest of the tag."""

    model: str              # with namespace where it is not the library's
    tag: str
    size: str = ""          # 8b, 8x7b, e4b
    words: frozenset[str] = frozenset()
    quant: str = ""         # q4_k_m, fp16: never selects a repository

    @property
    def plain(self) -> str:
        """The tag without its quantisation."""
        return _QUANT.sub("", self.tag)


def parse(name: str) -> Tag:
    """Take a name apart; anything is a name, so this never fails. A digest at its end is left out."""
    model, _, tag = canonical(_DIGEST.sub("", name.strip())).rpartition(":")
    plain = _QUANT.sub("", tag)
    size, whole = size_of(plain), whole_size(plain)
    quant = _QUANT.search(tag)
    words = frozenset(word for word in plain.removeprefix(whole).split("-") if word)
    return Tag(model, tag, size, words, quant[1] if quant else "")


def size_of(tag: str) -> str:
    """Return the size token of a tag (`30b` of `30b-a3b-q4_K_M`), empty where it has none."""
    found = _SIZE.match(tag.lower())
    return found[1] if found else ""


def whole_size(tag: str) -> str:
    """Return the size token with the active parameters behind it (`30b-a3b`)."""
    found = _SIZE.match(tag.lower())
    return found[0] if found else ""


def words_of(tag: str) -> set[str]:
    """Return the words of a tag that are neither size nor quantisation."""
    plain = _QUANT.sub("", tag.lower())
    return {word for word in plain.removeprefix(whole_size(plain)).split("-") if word}


def has_quant(tag: str) -> bool:
    return _QUANT.search(tag.lower()) is not None


def is_cloud(name: str) -> bool:
    """Tell whether a tag is one of those that run on Ollama's own servers."""
    return _CLOUD.search(parse(name).tag) is not None
