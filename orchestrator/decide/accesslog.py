"""Lines of Ollama's log, one at a time: the access log of gin, and what llama-server tells beside it (0.30 on).

Tolerant by design: prefixes of docker, compose and journald, colours, both latency paddings of gin, cut lines.
Sources: gin's logger.go (defaultLogFormatter); llama.cpp's server log as Ollama passes it through.
"""

from __future__ import annotations

import calendar
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_GIN = re.compile(
    r"\[GIN\]\s*(\d{4}/\d\d/\d\d)\s+-\s+(\d\d):(\d\d):(\d\d)\s*\|\s*(\d{3})\s*\|\s*([^|\s]+)\s*\|\s*([^|]*?)\s*\|"
    r"\s*([A-Z]+)\s+[\"\\]*([^\"\\\s]+)"      # quotes are doubled or escaped where a log was put into CSV or JSON
)
_STAMP = re.compile(     # docker, compose, Kubernetes, journald (short-iso, short-full), CSV, logfmt
    r"(?:^\"?|\| |\] |^[A-Za-z]{2,5}\.? |\b(?:time|ts|timestamp)=\"?)\s*"
    r"(\d{4}-\d\d-\d\d)[T ](\d\d):(\d\d):(\d\d)([.,]\d{1,9})?"
    r"\s?(Z|UTC|GMT|[+-]\d\d:?\d\d)[\s\",;]"
)
_UNIX = re.compile(r"^\s*(\d{9,10}\.\d{1,9})\s")      # journald: short-unix
_MINUTE = re.compile(r"\d{4}/\d\d/\d\d - \d\d:\d\d:|\d{4}-\d\d-\d\dT\d\d:\d\d:")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|µs|μs|us|Âµs|Î¼s|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "ns": 1e-9}
_TASK = re.compile(r"task\.n_tokens = (\d+)")
_SLOT = re.compile(r"n_ctx_slot = (\d+)")
_EVAL = re.compile(r"(?<!prompt )\beval time\s*=.*?/\s*(\d+)\s*(?:tokens|runs)")
_START = re.compile(r"--model\s+(\S+)")
_CONTEXT = re.compile(r"\s-c\s+(\d+)")
_SLOTS = re.compile(r"\s-np\s+(\d+)")
_SETTING = re.compile(r"\b(OLLAMA_[A-Z_]+):([^\s\]]*)")
_SAMPLER = re.compile(r"\b(repeat_last_n|repeat_penalty|top_k|top_p|min_p|temp)\s*=\s*(-?\d+(?:\.\d+)?)")
INFERENCE = frozenset({
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions", "/v1/completions",
    "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/audio/transcriptions",
})  # fmt: skip
_DOCKER = '{"log":"'
_TEXTS = ("log", "MESSAGE", "message", "msg", "line", "textPayload", "body")
_TIMES = ("time", "__REALTIME_TIMESTAMP", "@timestamp", "timestamp", "ts")
_WIDEST = 200               # characters of a path or an address that are kept
LONGEST = 7 * 86400.0       # seconds; a longer request is a damaged line
# What health checks, balancers and chat interfaces ask all the time; none of it makes a model work.
_PROBES = frozenset({"/", "/api/version", "/api/ps", "/api/tags", "/api/status", "/v1/models"})


class Access(NamedTuple):       # a tuple: a million of them are made
    """One finished request. `end` in seconds since the epoch, `latency` in seconds."""

    end: float
    latency: float
    status: int
    caller: str
    method: str
    path: str
    shift: float | None = None      # gin's own clock minus docker's, in seconds, where both are there

    @property
    def inference(self) -> bool:
        return self.method == "POST" and self.path in INFERENCE

    @property
    def probe(self) -> bool:
        return self.method == "HEAD" or (self.method == "GET" and self.path in _PROBES)


@dataclass(slots=True)
class Engine:
    """What llama-server's lines say, summed up as they go by."""

    prompts: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    sampling: dict[str, dict[str, int]] = field(default_factory=dict)
    context: int = 0
    slots: int = 0
    started: dict[str, int] = field(default_factory=dict)       # weights file -> starts
    settings: dict[str, str] = field(default_factory=dict)
    truncated: int = 0


def duration(text: str) -> float | None:
    """Return a Go duration such as 1m30.5s or 453.2µs in seconds; None when it is none."""
    at, total = 0, 0.0
    for found in _PART.finditer(text):
        if found.start() != at:
            return None
        total += float(found[1]) * _UNITS.get(found[2], 1e-6)
        at = found.end()
    return total if at == len(text) and at else 0.0 if text == "0" else None


@lru_cache(maxsize=4096)
def _day(text: str) -> int | None:
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:])
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31):
        return None
    return calendar.timegm((year, month, day, 0, 0, 0))


def _seconds(day: str, hour: str, minute: str, second: str) -> float | None:
    base = _day(day)
    return None if base is None or hour > "23" else base + int(hour) * 3600.0 + int(minute) * 60 + int(second)


def minute(text: str) -> float | None:
    """Return `2026/05/04 - 10:00:` or `2026-05-04T10:00:` in seconds since the epoch; None when it is neither."""
    return _seconds(text[:10], text[-6:-4], text[-3:-1], "00") if _MINUTE.fullmatch(text) else None


def stamp(head: str) -> float | None:
    """Return the time in what docker, compose, Kubernetes or journald put before a line, in seconds since the epoch.

    None where there is none, or none with a zone, as in journald's default format.
    """
    head = head[-200:].lstrip("\0\ufeff")
    if found := _UNIX.match(head):
        return float(found[1])
    found = _STAMP.search(head)
    if not found:
        return None
    whole = _seconds(*found.group(1, 2, 3, 4))
    if whole is None:
        return None
    zone = found[6].replace(":", "")
    shift = 0 if zone[0] in "ZUG" else (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 3600 + int(zone[3:5]) * 60)
    return whole + float((found[5] or "0").replace(",", ".")) - shift


def unpacked(line: str) -> str:
    """Return a line of a JSON log (docker's json-file, journald, shippers) as `docker logs --timestamps` shows it.

    Any other line is returned as it is.
    """
    end = line.find('","stream":"', 8) if line.startswith(_DOCKER) else -1
    if end > 0:     # docker's own, which may come by the million: what has no other escape needs no parser
        text = line[8 : end - 2 * line.endswith("\\n", 8, end)].replace('\\"', '"')
        at = line.rfind('"time":"', end)
        if at > 0 and "\\" not in text:
            return line[at + 8 :].partition('"')[0] + " " + text
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return line
    said: Any = next((told[key] for key in _TEXTS if key in told), None) if isinstance(told, dict) else None
    if isinstance(said, list):      # journald: bytes, as soon as there is a colour among them
        said = bytes(one for one in said if isinstance(one, int) and 0 <= one < 256).decode("utf-8", "replace")
    if not isinstance(said, str):
        return line
    time = next((told[key] for key in _TIMES if told.get(key)), "")
    if isinstance(time, str) and time.isdecimal() and 15 <= len(time) <= 16:
        time = f"{time[:-6]}.{time[-6:]}"       # journald: microseconds
    return f"{time} {said}"


def access(line: str) -> Access | str:
    """Return the request in a line that holds `[GIN]`, or why it cannot be read."""
    if "\x1b" in line:
        line = ANSI.sub("", line)
    if "\0" in line:
        line = line.replace("\0", "")
    found = _GIN.search(line)
    if not found:
        return "cut or unknown form"
    latency = duration(found[6])
    if latency is None:
        return "latency not readable"
    if latency > LONGEST:
        return "latency not plausible"
    own = _seconds(*found.group(1, 2, 3, 4))
    if own is None:
        return "impossible date"
    outer = stamp(line[: found.start()]) if found.start() else None
    caller, path = found[7][:_WIDEST] or "unknown", found[9].partition("?")[0][:_WIDEST]
    return Access(own if outer is None else outer, latency, int(found[5]), caller, found[8], path,
                  None if outer is None else own - outer)  # fmt: skip


def engine(line: str, told: Engine) -> None:
    """Add what a line of llama-server or of Ollama's scheduler says; any other line changes nothing."""
    if "task.n_tokens" in line and (found := _TASK.search(line)):
        told.prompts.append(int(found[1]))
        if slot := _SLOT.search(line):
            told.context = max(told.context, int(slot[1]))
    elif "eval time" in line and "prompt eval" not in line and (found := _EVAL.search(line)):
        told.outputs.append(int(found[1]))
    elif "truncating input prompt" in line:
        told.truncated += 1
    elif "--model" in line and "llama-server" in line and (found := _START.search(line)):
        _started(line, found[1], told)
    elif "server config" in line and "OLLAMA_" in line:
        told.settings.update(_SETTING.findall(line))
    elif " = " in line and ("top_k" in line or "repeat_penalty" in line):
        for name, value in _SAMPLER.findall(line):
            seen = told.sampling.setdefault(name, {})
            seen[value] = seen.get(value, 0) + 1


def _started(line: str, weights: str, told: Engine) -> None:
    name = weights.rsplit("/", 1)[-1].strip('"')
    told.started[name] = told.started.get(name, 0) + 1
    slots = int(found[1]) if (found := _SLOTS.search(line)) else 1
    told.slots = max(told.slots, slots)
    if found := _CONTEXT.search(line):
        told.context = max(told.context, int(found[1]) // max(1, slots))
