"""The door to the Hugging Face Hub: does a repository exist, may we read it, what does its config.json say.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE` and the proxy variables mean what they mean
to huggingface_hub. The token leaves this module in one header, to one host, and in no message.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_WHOLE_S = 20.0         # a server that drips is given up
_MOST = 4 * 2**20       # bytes of a config.json or index that we are ready to read
_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Hub said of one file. status 0: it did not answer, and `problem` says how."""

    status: int
    code: str = ""          # X-Error-Code: GatedRepo, RepoNotFound, EntryNotFound, RevisionNotFound
    body: bytes = b""
    problem: str = ""


class Hub:
    """Synchronous; never raises for what the network or the Hub does: an Answer says it."""

    def __init__(self, env: Mapping[str, str] | None = None, transport: httpx.BaseTransport | None = None) -> None:
        env = os.environ if env is None else env
        self.endpoint = (env.get("HF_ENDPOINT") or "https://huggingface.co").strip().rstrip("/")
        self.offline = any(env.get(key, "").strip().upper() in ("1", "ON", "YES", "TRUE")
                           for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))  # fmt: skip
        self.cache = _cache(env)
        self._token = _token(env)
        self._http = httpx.Client(timeout=_TIMEOUT, transport=transport, trust_env=True, follow_redirects=False)

    @property
    def shown(self) -> str:
        """The endpoint as messages may show it: a mirror's address may carry a password."""
        return re.sub(r"//[^/]*@", "//", self.endpoint)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    def file(self, repo: str, name: str, *, anonymous: bool = False) -> Answer:
        """Return a small file of a repository's main revision."""
        return self._get(f"{self.endpoint}/{quote(repo)}/resolve/main/{quote(name)}", anonymous=anonymous)

    def tree(self, repo: str) -> list[dict[str, Any]] | None:
        """Return the files at the top of a repository with their sizes; None when the Hub does not tell."""
        answer = self._get(f"{self.endpoint}/api/models/{quote(repo)}/tree/main")
        found = parsed(answer.body) if answer.status == 200 else None
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else None

    def _get(self, url: str, *, anonymous: bool = False) -> Answer:
        headers = {"authorization": f"Bearer {self._token}"} if self._token and not anonymous else {}
        try:
            host = urlsplit(url).netloc
            for _ in range(_REDIRECTS):
                # A redirect to another host (the CDN) carries its own signature: the token stays here.
                own = headers if urlsplit(url).netloc == host else {}
                with self._http.stream("GET", url, headers=own) as answer:
                    if answer.is_redirect and answer.has_redirect_location:
                        url = str(answer.url.join(answer.headers["location"]))
                        continue
                    code = answer.headers.get("x-error-code", "")
                    return Answer(answer.status_code, code, _read(answer))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # The words of an exception may quote a proxy's password: only its kind is told.
            return Answer(0, problem=f"{self.shown} did not answer ({type(error).__name__})")
        return Answer(0, problem="too many redirects")


def parsed(body: bytes | None) -> Any:
    """Return JSON, or None for what is none."""
    try:
        return json.loads(body or b"null")
    except (ValueError, RecursionError):
        return None


def snapshot(cache: Path, repo: str) -> Path | None:
    """Return the newest snapshot of a repository in a local cache: what refs/main names, else the last written."""
    root = cache / ("models--" + repo.replace("/", "--"))
    try:
        main = root / "snapshots" / (root / "refs" / "main").read_text(encoding="utf-8").strip()
        if main.name != "snapshots" and main.is_dir():
            return main
    except (OSError, ValueError):
        pass
    try:
        dirs = [one for one in (root / "snapshots").iterdir() if one.is_dir()]
        return max(dirs, key=lambda one: one.stat().st_mtime, default=None)
    except OSError:
        return None


def read_local(folder: Path, name: str) -> Any:
    """Return a JSON file of a directory, or None when it cannot be read."""
    try:
        path = folder / name
        return parsed(path.read_bytes()) if path.stat().st_size <= _MOST else None
    except OSError:
        return None


def local_weights(folder: Path) -> int | None:
    """Return the bytes of a directory's safetensors files; None when it has none or cannot be read."""
    try:
        sizes = [one.stat().st_size for one in folder.glob("*.safetensors")]
    except OSError:
        return None
    return sum(sizes) or None


def _read(answer: httpx.Response) -> bytes:
    body, until = b"", time.monotonic() + _WHOLE_S
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > _MOST:
            return b""
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the answer did not end in time")
    return body


def _cache(env: Mapping[str, str]) -> Path:
    own = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    xdg = env.get("XDG_CACHE_HOME") or "~/.cache"
    home = env.get("HF_HOME") or f"{xdg}/huggingface"
    return Path(home).expanduser() / "hub"


def _token(env: Mapping[str, str]) -> str:
    token = (env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
    # A line break or a non-ASCII character could not be sent; the Hub would refuse such a token anyway.
    return token if token.isascii() and token.isprintable() else ""
