"""Places in source and configuration that talk to Ollama, and what the gateway means for each. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.decide.callers import signs
from orchestrator.facts import Caller

WIDTH = 160         # a line of the report; minified code would fill the screen
UNCHANGED = "keeps working: the gateway has Ollama's address"
NOTES = {
    "embed": "an embedding model stays on Ollama unless you move it; vectors of another engine are not comparable: "
             "re-index",
    "write": "goes to Ollama alone: it does not change what vLLM serves; for a migrated name edit migrate.yaml",
    "num_ctx": "no effect on vLLM: the context is the engine's max_model_len",
    "keep_alive": "no effect on vLLM: the engine keeps its model loaded",
    "context": "Ollama's token numbers mean nothing to vLLM: send messages to /api/chat instead",
    "raw": "approximately: raw and template requests are rebuilt for vLLM; compare the answers before the cutover",
    "runner": "no effect on vLLM: a setting of Ollama's own runner or sampler",
    "image": "works when this client is on one of the Docker networks where Ollama is today: the gateway takes its "
             "name there",
    "serve": "starts an Ollama of its own or the one that the stack takes over: it must not claim the gateway's port",
    "publish": "the gateway takes this port: after the take-over this mapping must not be started again beside it",
    "inside": "`docker exec` and the command line inside Ollama's own container reach it directly, past the gateway",
}  # fmt: skip
_WRITES = frozenset({"pull", "push", "create", "copy", "cp", "delete", "rm", "blobs"})
_EMBEDS = frozenset({"embed", "embeddings"})
_EMBED_SDK = re.compile(
    r"OllamaEmbedding|AddOllama\w*Embedding|embeddings\.ollama|ollama\.embed|\.embed(?:dings)?\(|ollama(?:_chat)?/[\w.-]*embed"
)
_SPRING = {"num-ctx": "num_ctx", "keep-alive": "keep_alive", "embedding": "embed", "pull-model-strategy": "write"}
_SDK_WRITE = re.compile(r"\bollama\.(?:pull|push|create|copy|delete)\s*\(")
_LOCAL = re.compile(
    r"localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|host\.docker\.internal|\d+\.\d+\.\d+\.\d+|\.\w{2,}:", re.IGNORECASE,
)
_PASSWORD = re.compile(r"(://[^\s/@:'\"]*:)[^\s/@'\"]+@")
_SECRET = re.compile(
    r"""((?:api[_-]?key|token|secret|passw(?:or)?d|credentials?)\w*\\?['"]?\s*(?:=>|:=|[:=])\s*|\b(?:Bearer|Basic)\s+)"""
    r"""(\\?['"]?)([\w.+/~=-]{6,})""", re.IGNORECASE,
)  # fmt: skip
# What Ollama's clients are given because they must send something, and calls that read the secret elsewhere.
_NO_SECRETS = frozenset({"ollama", "not-needed", "not_needed", "no-key", "none", "null", "unused", "os.environ",
                         "os.getenv", "process.env"})  # fmt: skip
_READ = 4000        # characters of a line
_END = re.compile(r"\r\n|\n|\r")
_DIGITS = re.compile(r"11434|ollama", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    label: str = ""     # the notebook's cell
    prose: bool = False


def find(path: str, text: str) -> list[Caller]:
    """Return every place of one file that talks to Ollama, in the file's order; never raises.

    One `Caller` per line. `kind` is env, native, sdk, command, url, port, v1 or setting, with `doc` for comments and
    prose. A native path such as /api/chat counts only where the file shows Ollama otherwise. In a notebook `line`
    counts within the cell, which `text` names.
    """
    if not _DIGITS.search(text):
        return []
    text = text.removeprefix("\ufeff")
    lines = list(_lines(path, text))
    manifest = bool(signs.MANIFESTS.search(path))
    firm = [(line, _firm(line.text, manifest=manifest)) for line in lines]
    evident = any(kind and not line.prose for line, kind in firm) or any(
        signs.IMAGE.search(line.text) for line in lines if not line.prose
    )
    generates = bool(signs.GENERATES.search(text))
    makes = bool(signs.CLIENT.search(text))
    found = []
    for line, kind in firm:
        said = kind or (_weak(line.text, generates=generates, makes=makes) if evident else "")
        if said:
            found.append(_caller(path, line, said))
    return found


def _lines(path: str, text: str) -> Iterator[_Line]:
    prose = bool(signs.PROSE.search(path)) and not signs.MANIFESTS.search(path)
    if path.lower().endswith(".ipynb"):
        try:
            yield from _cells(json.loads(text))
        except (ValueError, RecursionError, AttributeError, TypeError):
            pass
        else:
            return
    # Not splitlines: a form feed ends no line in an editor.
    for number, line in enumerate(_END.split(text), 1):
        yield _Line(number, line, prose=prose or _commented(line))


def _cells(book: object) -> Iterator[_Line]:
    cells = book.get("cells") if isinstance(book, dict) else None
    if cells is None and isinstance(book, dict):    # nbformat 3
        cells = [cell for sheet in book.get("worksheets", ()) for cell in sheet.get("cells", ())]
    for number, cell in enumerate(cells or (), 1):
        source = cell.get("source", cell.get("input", "")) if isinstance(cell, dict) else ""
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        prose = isinstance(cell, dict) and cell.get("cell_type") != "code"
        for at, line in enumerate(_END.split(text), 1):
            yield _Line(at, line, f"cell {number}: ", prose or _commented(line))


def _commented(line: str) -> bool:
    """Return whether all that speaks of Ollama on this line stands in a comment."""
    if signs.COMMENT.match(line):
        return True
    tail = signs.TRAILING.search(line)
    return tail is not None and not _DIGITS.search(line[: tail.start()])


def _firm(line: str, *, manifest: bool) -> str:
    """Return what kind of evidence this line is by itself, or ''."""
    short = line[:4000]
    if not _DIGITS.search(short) or (signs.CLOUD.search(short) and "11434" not in short):
        return ""
    if "}:11434" in short and signs.PORT.search(short):
        return "port"
    command = signs.COMMAND.search(short)
    if signs.ENV.search(short) and not short.lstrip().startswith("OLLAMA_ORIGINS"):
        return "command" if command else "native" if signs.NATIVE.search(short) else "env"
    url = signs.URL.search(short)
    if url and signs.NATIVE.search(short, url.end()):
        return "native"
    if command:
        return "command"
    if any(pattern.search(short) for pattern in signs.SDK) or (manifest and signs.DEPENDENCY.search(short)):
        return "sdk"
    if signs.PORT.search(short):
        return "port"
    return "url" if url else ""


def _weak(line: str, *, generates: bool, makes: bool) -> str:
    """Return what this line is in a file that shows Ollama elsewhere. `makes`: it makes a client of Ollama."""
    short = line[:4000]
    if makes and signs.CALL.search(short):
        return "sdk"
    if not signs.OTHER_HOST.search(short) and not signs.OWN_ROUTE.search(short):
        if signs.NATIVE.search(short):
            return "native"
        if "/v1/" in short and signs.V1.search(short):
            return "v1"
    return "setting" if signs.setting(short, generates=generates) else ""


def _caller(path: str, line: _Line, kind: str) -> Caller:
    works, note = _judge(kind, line.text)
    shown = _hidden(line.text.strip()[:_READ])
    shown = shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + "…"
    where = "a comment or documentation: " if line.prose else ""
    return Caller(path, line.number, "doc" if line.prose else kind, line.label + shown, works, where + note)


def _hidden(text: str) -> str:
    """Return a line without what looks like a secret: reports and files of facts are handed around."""
    text = _PASSWORD.sub(r"\1***@", text)
    return _SECRET.sub(lambda hit: hit[0] if hit[3].lower() in _NO_SECRETS else f"{hit[1]}{hit[2]}***", text)


def _judge(kind: str, line: str) -> tuple[bool, str]:
    """Return whether this place works unchanged behind the gateway, and why or what not."""
    path = signs.NATIVE.search(line)
    word = path[1] if path else ""
    command = signs.COMMAND.search(line)
    if kind == "command" and command:
        return _command(line, command[1] or command[2])
    call = signs.CALL.search(line) if kind == "sdk" else None
    called = (call[1] or call[2]).lower() if call else ""
    if (word if kind in ("native", "url") else called) in _WRITES or (kind == "sdk" and _SDK_WRITE.search(line)):
        return False, NOTES["write"]
    if _embeds(kind, word, line) or called in ("embed", "embedding", "embeddings"):
        return False, NOTES["embed"]
    spring = signs.SPRING.search(line)
    if spring:
        return False, NOTES[_SPRING[spring[1]]]
    name = signs.setting(line)
    if name and kind != "env":
        return _setting(name)
    if kind == "port":
        published = re.search(r"11434:\d|[\d}]:11434|-p|publish|hostPort", line)
        return (False, NOTES["publish"]) if published else (True, UNCHANGED)
    if kind in ("url", "env", "native") and "://" in line and not _LOCAL.search(line):
        return True, NOTES["image"]
    return True, UNCHANGED


def _embeds(kind: str, word: str, line: str) -> bool:
    sdk = kind == "sdk" and bool(_EMBED_SDK.search(line))
    return sdk or (kind == "native" and word in _EMBEDS) or "/v1/embeddings" in line


def _command(line: str, verb: str) -> tuple[bool, str]:
    if "exec" in line.split():
        return False, NOTES["inside"]
    if verb in _WRITES:
        return False, NOTES["write"]
    if verb == "serve":
        return False, NOTES["serve"]
    return True, UNCHANGED


def _setting(name: str) -> tuple[bool, str]:
    if name in ("numCtx", "num-ctx") or name.lower().endswith("num_ctx"):
        return False, NOTES["num_ctx"]
    if name in ("keep_alive", "keepAlive", "keep-alive"):
        return False, NOTES["keep_alive"]
    if name == "context":
        return False, NOTES["context"]
    return False, NOTES["raw" if name in ("raw", "template") else "runner"]
