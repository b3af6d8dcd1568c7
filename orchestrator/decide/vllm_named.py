"""Speculative decoding and chunked prefill as named keys of the spec: their flags, and how those are read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.decide.vllm_flags import Option, read

NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
_CONFIG = "--speculative-config"


def named(speculative: Mapping[str, Any] | str | None = None, *, chunked_prefill: bool | None = None) -> list[str]:
    """Return the flags of the named keys; `speculative` is the mapping of --speculative-config, or `ngram`."""
    flags: list[str] = []
    if speculative:
        config = NGRAM if speculative == "ngram" else {"method": speculative} if isinstance(speculative, str) \
            else dict(speculative)  # fmt: skip
        flags += [_CONFIG, json.dumps(config, separators=(",", ":"))]
    if chunked_prefill is not None:
        flags.append("--enable-chunked-prefill" if chunked_prefill else "--no-enable-chunked-prefill")
    return flags


def read_speculative(args: Sequence[str]) -> dict[str, Any] | None:
    """Return what a user's own flags say of speculative decoding, as JSON or key by key; None when nothing."""
    found: dict[str, Any] | None = None
    for option in read(args).options:
        name, _, key = option.key.partition(".")
        if name != _CONFIG or option.value is None:
            continue
        if key:
            found = {**(found or {}), key.replace("-", "_"): _json(option)}
        else:
            whole = _json(option)
            found = whole if isinstance(whole, dict) else found
    return found


def _json(option: Option) -> Any:
    try:
        return json.loads(option.value or "")
    except ValueError:
        return option.value
