"""What a client's script answers: every value reduced to what a caller's program can rely on.

A driver imports this inside the libraries' own environment; it knows no library.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

# Their texts are part of the protocol; of all others the type counts.
EXACT = {"role", "object", "type", "done", "done_reason", "finish_reason", "stop_reason", "status", "name", "model"}


def shape(value: Any, key: str = "") -> Any:
    """Return the structure of a value: fields with types, lists as the shapes that follow one another in them."""
    if key in EXACT and (value is None or isinstance(value, str | bool)):
        return value
    if value is None or isinstance(value, str | bool | int | float):
        return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    if isinstance(value, dict):
        return {str(name): shape(one, str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return runs(shape(one) for one in value)
    if hasattr(value, "model_dump"):
        fields = {name: getattr(value, name, None) for name in type(value).model_fields}
        return {"class": type(value).__name__, **shape({**fields, **(value.model_extra or {})})}
    return type(value).__name__


def runs(values: Iterable[Any]) -> list[Any]:
    """Return values without those that equal the one before."""
    found: list[Any] = []
    for value in values:
        if not found or found[-1] != value:
            found.append(value)
    return found


def attempt(case: Callable[[], Any]) -> Any:
    """Return what a case answers, or the class and the words of the error that the library raised.

    One of Python's own errors is marked as `ours`: the script does not fit the library, or the library stumbled.
    """
    try:
        return case()
    except Exception as error:  # noqa: BLE001 - which one comes is the result
        told = {"error": type(error).__name__, "said": re.sub(r"req_\w+", "req_*", str(error))}
        if type(error).__module__ == "builtins":
            traceback.print_exc()
            told["ours"] = "an error of Python's own"
        return told


def serve(cases: Callable[[dict[str, Any]], dict[str, Callable[[], Any]]]) -> None:
    """Answer every line of standard input (an object: url, names of models) with one line: results by case."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the errors
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        results = {}
        for name, case in cases(told).items():
            began = time.monotonic()
            results[name] = attempt(case)
            print(f"{told['side']} {name}: {time.monotonic() - began:.2f} s", file=sys.stderr, flush=True)
        print(json.dumps(results), file=out, flush=True)
