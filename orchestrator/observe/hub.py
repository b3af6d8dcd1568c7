"""Looks at the repositories of a plan: there or not, gated or not, their config.json. Changes nothing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from orchestrator.clients.hub import Answer, Hub, local_weights, parsed, read_local, snapshot
from orchestrator.decide.hubfact import ACCEPTED, GATED, LOCAL, MISSING, OPEN, REFUSED, UNCHECKED, HubFact, trimmed
from orchestrator.decide.mapping import is_local

_INDEX = "model.safetensors.index.json"
_REPO = re.compile(r"^[\w.-]+/[\w.-]+$", re.ASCII)
_AT_ONCE = 8
PATIENCE_S = 5.0        # for all repositories of a plan together


def look(repos: Iterable[str], hub: Hub | None = None, seconds: float | None = None) -> dict[str, HubFact]:
    """Return one fact per repository, in the order given; never raises for what the Hub or the disk does.

    `seconds`: what has not answered by then is not checked, and nobody waits for it, not even the end of the process.
    """
    wanted = list(dict.fromkeys(repos))
    own = hub or Hub()
    found: dict[str, HubFact] = {}
    waiting: SimpleQueue[str] = SimpleQueue()
    for repo in wanted:
        waiting.put(repo)
    threads = [threading.Thread(target=_work, args=(waiting, own, found), daemon=True)
               for _ in range(min(_AT_ONCE, len(wanted)))]  # fmt: skip
    for one in threads:
        one.start()
    until = None if seconds is None else time.monotonic() + seconds
    for one in threads:
        one.join(None if until is None else max(0.0, until - time.monotonic()))
    seen = dict(found)
    if hub is None and not any(one.is_alive() for one in threads):
        own.close()
    late = f"{UNCHECKED} ({own.shown} did not answer in {seconds or 0:g} s)"
    return {repo: seen.get(repo) or HubFact(repo, UNCHECKED, late) for repo in wanted}


def _work(waiting: SimpleQueue[str], hub: Hub, found: dict[str, HubFact]) -> None:
    while True:
        try:
            repo = waiting.get_nowait()
        except Empty:
            return
        try:
            found[repo] = probe(repo, hub)
        except Exception as error:  # noqa: BLE001  # nothing that one repository does may stop the look at the others
            found[repo] = HubFact(repo, UNCHECKED, f"{UNCHECKED} ({type(error).__name__})")


def probe(repo: str, hub: Hub) -> HubFact:
    """Look at one repository, or at one directory."""
    if is_local(repo):
        return _directory(repo)
    if not _REPO.match(repo):
        return HubFact(repo, MISSING, f"{repo} is no name of a repository (owner/name)")
    if hub.offline:
        return _from_cache(repo, hub, "offline")
    answer = hub.file(repo, "config.json")
    if answer.status in (0, 429) or answer.status >= 500:
        return _from_cache(repo, hub, answer.problem or f"the Hub answered {answer.status}")
    return _judged(repo, hub, answer)


def _judged(repo: str, hub: Hub, answer: Answer) -> HubFact:
    page = f"{hub.shown}/{repo}"
    if answer.status == 200 or (answer.status == 404 and answer.code == "EntryNotFound"):
        config = _object(parsed(answer.body)) if answer.status == 200 else {}
        if answer.status == 200 and not config:
            return _from_cache(repo, hub, f"{hub.shown} answers with something that is no config.json: a proxy's page?")
        bare = hub.file(repo, "config.json", anonymous=True) if hub.has_token else answer
        gated = bare.code == "GatedRepo"
        said = ACCEPTED if gated else OPEN
        if answer.status == 404:
            said += ", without a config.json: vLLM may not load it"
        return HubFact(repo, ACCEPTED if gated else OPEN, said, trimmed(config), _weights(repo, hub))
    if answer.code == "GatedRepo" or answer.status == 403:
        todo = f"accept its licence at {page}"
        if not hub.has_token:
            todo += ", and set HF_TOKEN to a token of that account"
        else:
            todo += " with the account of HF_TOKEN (a fine-grained token also needs access to gated repositories)"
        return HubFact(repo, GATED, f"gated: needs you to {todo}")
    if answer.status == 401 and hub.has_token and answer.code != "RepoNotFound":
        return HubFact(repo, REFUSED, "the Hub refused HF_TOKEN: make a new one at "
                       f"{hub.shown}/settings/tokens")  # fmt: skip
    if not answer.code and answer.body.lstrip()[:1] == b"<":
        return _from_cache(repo, hub, f"{hub.shown} answers {answer.status} with a page: a proxy's?")
    if answer.status in (401, 404) or answer.code in ("RepoNotFound", "RevisionNotFound"):
        hint = "check the name" + ("" if hub.has_token else ", or set HF_TOKEN if it is private")
        return HubFact(repo, MISSING, f"{MISSING}: {hint}")
    return _from_cache(repo, hub, f"the Hub answered {answer.status}")


def _from_cache(repo: str, hub: Hub, why: str) -> HubFact:
    folder = snapshot(hub.cache, repo)
    if folder is None:
        return HubFact(repo, UNCHECKED, f"{UNCHECKED} ({why})")
    config = _object(read_local(folder, "config.json"))
    said = f"{UNCHECKED} ({why}); it is in the local cache"
    return HubFact(repo, UNCHECKED, said, trimmed(config), local_weights(folder), True)


def _directory(path: str) -> HubFact:
    folder = Path(path).expanduser()
    try:
        there = folder.is_dir()
    except OSError:
        there = False
    if not there:
        return HubFact(path, MISSING, f"there is no directory {path}")
    config = _object(read_local(folder, "config.json"))
    if not config:
        return HubFact(path, MISSING, f"{path} has no readable config.json: it is no model for vLLM")
    weights = local_weights(folder)
    said = LOCAL if weights else f"{LOCAL}, without safetensors files"
    return HubFact(path, LOCAL, said, trimmed(config), weights, True)


def _weights(repo: str, hub: Hub) -> int | None:
    """Return the bytes of the weights: from the list of files, else from the index of a split checkpoint."""
    tree = hub.tree(repo)
    files = {str(one.get("path", "")): one.get("size") for one in tree or []}
    sizes = [size for path, size in files.items() if path.endswith(".safetensors")]
    # Mistral's repositories hold the weights twice; the split files are those that vLLM would load by default.
    split = [size for path, size in files.items() if re.fullmatch(r"model[\w.-]*\.safetensors", path)]
    total = sum(size for size in (split or sizes) if isinstance(size, int) and not isinstance(size, bool))
    if total:
        return total
    index = _object(parsed(hub.file(repo, _INDEX).body))
    told = _object(index.get("metadata")).get("total_size")
    return int(told) if isinstance(told, int | float) and not isinstance(told, bool) and told > 0 else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
