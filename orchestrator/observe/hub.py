"""Looks at the repositories of a plan: there or not, gated or not, their config.json. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from orchestrator.clients.hub import Answer, Hub, local_weights, parsed, read_local, snapshot
from orchestrator.decide.hubfact import ACCEPTED, GATED, LOCAL, MISSING, OPEN, REFUSED, UNCHECKED, HubFact
from orchestrator.decide.mapping import is_local

_INDEX = "model.safetensors.index.json"
_REPO = re.compile(r"^[\w.-]+/[\w.-]+$", re.ASCII)
_AT_ONCE = 8


def look(repos: Iterable[str], hub: Hub | None = None) -> dict[str, HubFact]:
    """Return one fact per repository, in the order given; never raises for what the Hub or the disk does."""
    wanted = list(dict.fromkeys(repos))
    own = hub or Hub()
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(lambda repo: probe(repo, own), wanted), strict=True))
    finally:
        if hub is None:
            own.close()


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
        bare = hub.file(repo, "config.json", anonymous=True) if hub.has_token else answer
        gated = bare.code == "GatedRepo"
        said = ACCEPTED if gated else OPEN
        if answer.status == 404:
            said += ", without a config.json: vLLM may not load it"
        return HubFact(repo, ACCEPTED if gated else OPEN, said, config, _weights(repo, hub))
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
    return HubFact(repo, UNCHECKED, said, config, local_weights(folder), True)


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
    return HubFact(path, LOCAL, said, config, weights, True)


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
