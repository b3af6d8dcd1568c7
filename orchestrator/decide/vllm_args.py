"""Judges what a user adds to vLLM's command line and environment, and joins it with what is rendered.

The pinned release's parser takes abbreviations silently (`--num-gpu` becomes `--num-gpu-blocks-override`) and
refuses flags that older releases had: both are found here, before a container starts.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.decide.finding import Finding, is_reference, ordered, secret_name, secret_value
from orchestrator.decide.vllm_flags import Flag, Option, Table, read, table

MAX_UTILIZATION = 0.95
_SIZE = re.compile(r"-1|\d+|\d+(\.\d+)?[kmgt]|\d+[KMGT]")      # vLLM takes no fraction of a binary unit
_OURS = {
    "--model": "set engines.NAME.repo",
    "--port": "leave it out: the gateway reaches the engine on 8000, and nothing else does",
    "--host": "leave it out: the engine is never published, the gateway is",
    "--uds": "leave it out: the gateway reaches the engine over the network",
    "--served-model-name": "set routes.MODEL.names",
    "--api-key": "leave it out: the engine is reachable from the gateway alone",
    "--root-path": "leave it out: the gateway keeps the paths",
    "--ssl-keyfile": "leave it out: put TLS in front of the gateway",
    "--ssl-certfile": "leave it out: put TLS in front of the gateway",
    "--config": "write its flags into vllm.args: a file can be neither checked nor shown in the plan",
}
_KEYS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}
_CONTAINER_GPUS = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def check(
    args: Sequence[str], *, env: Mapping[str, str] | None = None, rendered: Mapping[str, str] | None = None
) -> list[Finding]:
    """Return everything that is wrong with a user's flags and variables, worst first.

    `rendered` is what the product writes itself, full flag name -> value (such as --tensor-parallel-size).
    An empty list, or one without errors, means that the pinned vLLM reads the line as it was meant.
    """
    rendered = rendered or {}
    known = table()
    args = [str(word) for word in args]
    line = read(args, known)
    found = hashes(args)
    found += [one for at, word in line.loose for one in loose_word(at, word, args) if not word.startswith("#")]
    for option in line.options:
        found += check_option(option, known)
        if option.flag:
            found += _conflict(option, option.flag, rendered)
    found += twice([option.key for option in line.options])
    return ordered(found + check_env(env or {}, rendered=rendered))


def check_option(option: Option, known: Table | None = None) -> list[Finding]:
    """Return what is wrong with one flag whatever surrounds it: its name, its value, a secret in it."""
    known = known or table()
    if option.flag is None:
        return [_unknown(option, known)]
    found = _secrets(option)
    if not found:
        found = _typed(option, option.flag)
    return found or _bounds(option)


def twice(keys: Sequence[str]) -> list[Finding]:
    """Return the flags that stand on the line more than once: argparse takes the last one."""
    severity = {"--max-model-len": "error"}
    return [
        Finding(
            "error" if key in severity else "warning", key, f"is given {count} times; vLLM takes the last one",
            "keep one of them", code="twice",
        )
        for key, count in Counter(keys).items()
        if count > 1
    ]  # fmt: skip


def check_env(env: Mapping[str, str], *, rendered: Mapping[str, str] | None = None) -> list[Finding]:
    """Return what is wrong with an engine's environment. `rendered` None: a container that is not ours."""
    found = []
    for name, raw in env.items():
        value = "" if raw is None else str(raw)
        found += _variable(name, value, ours=rendered is not None)
        if value and (secret_value(value) or (secret_name(name) and not is_reference(value))):
            found.append(Finding(
                "error", name, "a secret in plain text: it ends in files, `docker inspect` and backups",
                f"put it into .env and write {name}: ${{{name}}}", code="secret",
            ))  # fmt: skip
    return ordered(found)


def _variable(name: str, value: str, *, ours: bool) -> list[Finding]:
    known = table()
    if name == "HUGGING_FACE_HUB_TOKEN":
        return [Finding("warning", name, "is the old name, read only as a fallback", "call it HF_TOKEN",
                        code="old-token-name")]  # fmt: skip
    if name == "HF_HUB_ENABLE_HF_TRANSFER":
        return [Finding("warning", name, "is ignored by today's huggingface_hub",
                        'write HF_XET_HIGH_PERFORMANCE: "1"', code="old-variable")]  # fmt: skip
    if ours and name in _CONTAINER_GPUS:
        return [Finding("error", name, "would contradict the GPUs that the stack reserves",
                        "set engines.NAME.gpus", code="conflict")]  # fmt: skip
    if not name.startswith("VLLM_"):
        return []
    if name == "VLLM_PORT":
        fatal = "://" in value
        return [Finding("error" if fatal else "warning", name, "is the base of internal ports, not the API's port",
                        "use --port, or leave it out", code="vllm-port")]  # fmt: skip
    if name == "VLLM_SERVER_DEV_MODE" and value not in ("", "0"):
        return [Finding("warning", name, "opens /sleep, /collective_rpc and more without a key",
                        "leave it out where anyone but the gateway reaches the port", code="dev-mode")]  # fmt: skip
    if name in known.env:
        return []
    near = difflib.get_close_matches(name, known.env, 1, 0.8)
    meant = f"did you mean {near[0]}?" if near else "leave it out, or name it without VLLM_"
    return [Finding("warning", name, f"vLLM {known.vllm} knows no such variable", meant, code="unknown-variable")]


def hashes(args: Sequence[str]) -> list[Finding]:
    """Return the words that were meant as comments: they reach vLLM, as does what follows them."""
    return [
        Finding(
            "error", word, "is an argument, not a comment: vLLM refuses it, and what follows stays active",
            "take it out, and the flags that it should have switched off", code="hash",
        )
        for word in dict.fromkeys(args)
        if word.startswith("#")
    ]  # fmt: skip


def loose_word(at: int, word: str, args: Sequence[str]) -> list[Finding]:
    """Return what is wrong with a word that belongs to no flag."""
    if word.strip() != word or not word:
        return [Finding("error", repr(word), "is blank or has blanks around it", "take it out", code="blank")]
    if " " in word and word.startswith("-"):
        return [Finding("error", word, "is one argument: flag and value are two", f"write {word.split()}",
                        code="joined")]  # fmt: skip
    if word in ("vllm", "serve"):
        return [Finding("error", word, "is in the image's entrypoint already", "take it out", code="repeated")]
    before = f" after {args[at - 1]}" if at else ""
    return [Finding("error", word, f"stands alone{before}; the model is rendered from engines.NAME.repo",
                    "take it out, or put it behind the flag it belongs to", code="positional")]  # fmt: skip


def _unknown(option: Option, known: Table) -> Finding:
    name = option.word
    gone = name.replace("_", "-")
    if gone in known.removed:
        instead = known.removed[gone]
        return Finding("error", name, f"is gone from vLLM {known.vllm}, which stops with `unrecognized arguments`",
                       f"write {instead}" if instead and not instead.startswith("nothing") else
                       (instead or "take it out: nothing is needed in its place"), code="removed")  # fmt: skip
    full = known.abbreviated(name)
    if full:
        return Finding("error", name, "is an abbreviation, which vLLM would take without a word",
                       f"write {' or '.join(full[:4])}", code="abbreviation")  # fmt: skip
    near = known.near(name)
    return Finding("error", name, f"vLLM {known.vllm} has no such flag",
                   f"did you mean {near}?" if near else "take it out", code="unknown")  # fmt: skip


def _secrets(option: Option) -> list[Finding]:
    name = option.key
    fixes = {flag: f"give {env} by reference from .env" for flag, env in _KEYS.items()}
    plain = [one for one in option.values if not is_reference(one)]
    if (name in fixes and plain) or any(map(secret_value, option.values)):
        return [Finding("error", name, "a secret on the command line: `ps` and `docker inspect` show it",
                        fixes.get(name, "take it out"), code="secret")]  # fmt: skip
    return []


def _typed(option: Option, flag: Flag) -> list[Finding]:
    if flag.kind == "switch":
        bad = bool(option.values)
        return [_value(option, "takes no value", f"write {option.word} alone")] if bad else []
    if not option.values:
        return [] if flag.many in ("?", "*") else [_value(option, "needs a value", f"write {option.word} VALUE")]
    for value in option.values:
        if "${" in value:
            continue
        if flag.choices and "." not in option.word and value not in flag.choices:
            near = difflib.get_close_matches(value, flag.choices, 1)
            fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(flag.choices)}"
            return [_value(option, f"does not take {value!r}", fix)]
        anything = "." in option.word or (flag.none and value in ("None", "")) \
            or (flag.name, value) == ("--max-model-len", "auto")  # fmt: skip
        problem = "" if anything else _kind_problem(flag.kind, value)
        if flag.name == "--lora-modules" and "=" not in value and not value.startswith("{"):
            problem = "NAME=PATH"
        if problem:
            return [_value(option, f"wants {problem}, not {value!r}", f"write {option.word} with {problem}")]
    return []


def _kind_problem(kind: str, value: str) -> str:
    try:
        if kind == "int":
            int(value)
        elif kind == "float":
            float(value)
        elif kind in ("json", "object") or value.startswith("{"):
            found = json.loads(value)
            return "" if kind != "object" or isinstance(found, dict) else "a JSON object such as '{}'"
        elif kind == "size" and not _SIZE.fullmatch(value):
            return "a size such as 8192, 8k (8000) or 8K (8192)"
    except ValueError:
        return {"int": "a whole number", "float": "a number"}.get(kind, "JSON")
    return ""


def _bounds(option: Option) -> list[Finding]:
    if option.key != "--gpu-memory-utilization" or option.value is None or "${" in option.value:
        return []
    share = float(option.value or "nan")
    if not 0 < share <= 1:
        return [_value(option, f"should be above 0 and at most 1, not {option.value}", "such as 0.9")]
    if share > MAX_UTILIZATION:
        return [Finding("error", option.key, f"{share:g} leaves no room for the CUDA context (about 0.6 GiB), which "
                        "is not in it", f"at most {MAX_UTILIZATION}", code="utilization")]  # fmt: skip
    return []


def _value(option: Option, what: str, fix: str) -> Finding:
    return Finding("error", option.key, what, fix, code="value")


def _conflict(option: Option, flag: Flag, rendered: Mapping[str, str]) -> list[Finding]:
    if flag.name in _OURS:
        return [Finding("error", flag.name, "is rendered by the stack, which needs its own value",
                        _OURS[flag.name], code="conflict")]  # fmt: skip
    if flag.name == "--tensor-parallel-size" and option.value != rendered.get(flag.name, "1"):
        ranks = rendered.get(flag.name, "1")
        return [Finding("error", flag.name, f"{option.value}, but the engine has {ranks} GPU{'s' * (ranks != '1')}",
                        "name the GPUs in engines.NAME.gpus; the flag follows", code="conflict")]  # fmt: skip
    return []


def merge(rendered: Sequence[str], user: Sequence[str]) -> list[str]:
    """Return the command line with the user's flags in place of the rendered ones, in the rendered order.

    `--no-X` and short forms replace `--X`; a dotted key (`--hf-overrides.a 1`) leaves the rendered JSON where it is.
    """
    theirs = read(user)
    wins = {option.key for option in theirs.options}
    ours = read(rendered)
    dropped = {at for one in ours.options if one.key in wins for at in range(one.at, one.at + len(one.words))}
    return [word for at, word in enumerate(rendered) if at not in dropped] + list(user)
