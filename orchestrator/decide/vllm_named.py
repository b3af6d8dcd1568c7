"""Speculative decoding and chunked prefill as named keys of the spec: their flags, and how those are read back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.decide.vllm_flags import Option, read

NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
_CONFIG = "--speculative-config"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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


def drafts(configs: Iterable[Any]) -> list[str]:
    """Return the repositories that --speculative-config mappings draft with: what can be looked at before the start."""
    models = [one.get("model") for one in configs if isinstance(one, Mapping)]
    return [one for one in models if isinstance(one, str) and _REPOSITORY.fullmatch(one)]


def _json(option: Option) -> Any:
    try:
        return json.loads(option.value or "")
    except ValueError:
        return option.value
