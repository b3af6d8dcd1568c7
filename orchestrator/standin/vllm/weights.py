"""How large a repository's weights and its cache are: estimated from its name, as no file is there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

GIB = 1024**3
# Parameters in billions up to which a row holds, key-value bytes per token at 16 bits, trained context.
SIZES = (
    (0.3, 24_576, 2048),
    (1.0, 114_688, 40_960),
    (2.0, 32_768, 131_072),
    (5.0, 114_688, 131_072),
    (10.0, 131_072, 131_072),
    (20.0, 196_608, 40_960),
    (40.0, 262_144, 131_072),
    (1000.0, 327_680, 131_072),
)
BYTES = ((re.compile(r"awq|gptq|int4|w4a16|4bit|nvfp4|mxfp4"), 0.71), (re.compile(r"fp8|int8|w8a"), 1.06))


@dataclass(frozen=True)
class Footprint:
    """Bytes of the weights (all devices together), of one token's cache, and the trained context."""

    weights: int
    token: int
    context: int


def of(repository: str, quantization: str | None, env: Mapping[str, str] = os.environ) -> Footprint:
    """Return what the stand-in pretends; STANDIN_WEIGHTS_GIB, STANDIN_KV_TOKEN_BYTES and STANDIN_CONTEXT win."""
    name = f"{repository} {quantization or ''}".lower()
    found = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", name)
    billions = float(found[1]) if found else 0.15
    token, context = next((t, c) for most, t, c in SIZES if billions <= most)
    each = next((size for pattern, size in BYTES if pattern.search(name)), 2.0)
    return Footprint(
        weights=int(float(env.get("STANDIN_WEIGHTS_GIB", billions * each * 1e9 / GIB)) * GIB),
        token=int(env.get("STANDIN_KV_TOKEN_BYTES", token)),
        context=int(env.get("STANDIN_CONTEXT", context)),
    )
