"""The edits for those who want to move a caller to /v1 or to the Hugging Face name. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from orchestrator.decide.callers import find, signs

_CLIENT = re.compile(r"\b(?:base_url|baseURL|api_base|baseUrl|OPENAI_(?:API_)?BASE(?:_URL)?|apiBase)\b")
_NAME = r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*(?::[\w.-]+)?"
_MODEL = re.compile(rf"""(\bmodel(?:_name|_id|Name|Id)?\\?['"]?\s*[:=]\s*\\?['"])({_NAME})(\\?['"])""")
_ENV_MODEL = re.compile(rf"""(^\s*(?:export\s+|-\s+)?[A-Z_]*MODEL[A-Z_]*\s*[:=]\s*['"]?)({_NAME})(['"]?\s*$)""")
_NATIVE_LIBRARY = re.compile(
    r"\bChatOllama\b|\bOllama(?:LLM|Embeddings?|Sharp|Api|ChatModel)?\s*\(|^\s*(?:import|from)\s+ollama\b"
    r"|\bnew\s+Ollama|\bollama(?:_chat)?/",
)


def migration(path: str, text: str, models: Mapping[str, str], base_url: str) -> list[str]:
    """Return the unified diff of one file, lines with their ends; [] where nothing is to be changed.

    `models`: Ollama name -> Hugging Face id; `base_url` such as http://gpu:11434/v1. Lines that need Ollama's own
    client or native paths keep their address: the gateway answers them. Applies with `git apply` or `patch -p1`.
    """
    places = [one for one in find(path, text) if one.kind != "doc"]
    if not places:
        return []
    before = re.findall(r"[^\n]*\n|[^\n]+\Z", text)     # not splitlines: a form feed is no end of line for patch
    after = [_moved(line, models, base_url) for line in before]
    if before == after:
        return []
    clean = path.lstrip("/").removeprefix("./")
    clean += "\t" if " " in clean else ""     # as git does, so that patch takes the whole name
    return _ended(difflib.unified_diff(before, after, f"a/{clean}", f"b/{clean}", n=3))


def _ended(lines: Iterable[str]) -> list[str]:
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]


def _moved(line: str, models: Mapping[str, str], base_url: str) -> str:
    if signs.COMMENT.match(line):
        return line
    line = _address(line, base_url)
    for pattern in (_MODEL, _ENV_MODEL):
        line = pattern.sub(lambda hit: hit[1] + _named(hit[2], models) + hit[3], line)
    return line


def _address(line: str, base_url: str) -> str:
    """Change the base of an OpenAI client; native clients and paths keep theirs."""
    if not (_CLIENT.search(line) or "/v1" in line) or signs.NATIVE.search(line) or _NATIVE_LIBRARY.search(line):
        return line
    url = signs.URL.search(line)
    if url is None or "://" not in url[0] or "/v1" not in line[url.end():]:
        return line
    whole = signs.ADDRESS.match(line, url.start())
    end = whole.end() if whole else url.end()
    rest = line[end:].removeprefix("/v1")
    return line[: url.start()] + base_url.rstrip("/") + rest


def _named(name: str, models: Mapping[str, str]) -> str:
    return models.get(name) or models.get(name.lower()) or models.get(name.removesuffix(":latest"), name)
