"""Where an installed model says that it comes from: its name, its file's metadata, then the catalogue."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.decide.catalog import Catalog, Entry, Found
from orchestrator.facts import Model

_HUB = re.compile(
    r"^(?:https?://)?(?:hf\.co|huggingface\.co|hf-mirror\.com)/(?P<repo>[^/:@]+/[^/:@]+)(?:[:@].*)?$", re.IGNORECASE
)
_HUB_URL = re.compile(
    r"^(?:(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/)?(?P<repo>[\w.-]+/[\w.-]+?)(?:\.git)?(?:/(?:tree|blob)/.*)?/?$",
    re.IGNORECASE,
)
_GGUF = re.compile(r"[-_.](?:i1-)?gguf$", re.IGNORECASE)
# What someone else did to the weights: such a file is not the model that it is named after.
_ALTERED = re.compile(r"abliterat|uncensor|merge|lora|heretic|dare|slerp|finetune|fine-tune|roleplay", re.IGNORECASE)
_CHAT = {"instruct", "chat", "it", "qat"}
_NAME_IT = "which the catalogue does not know; name the repository in migrate.yaml"
UNKNOWN = "not in the catalogue; name the repository in migrate.yaml"


def provenance(model: Model, catalog: Catalog) -> tuple[Found | None, tuple[str, ...]]:
    """Return what a model is and why we think so; nothing, with the reason, when nobody can tell.

    A name of the Hub, then the repository that the file was made from, then the library's name, then what the
    file says of its own name and of the model it was tuned from.
    """
    hub = _HUB.match(model.name.strip())
    direct, lineage = stated_repositories(model.architecture)
    if hub:
        repo = _GGUF.sub("", hub["repo"])
        found, why = _from_hub(repo, f"its name says {hub['repo']}", catalog, model)
        if found is None and not _ALTERED.search(repo):
            found, told = _first(direct + lineage, catalog, model)
            why = told if found else why
        return found, why
    found, why = _first(direct, catalog, model)
    if found:
        return found, why
    for name in (model.name, model.parent):
        found = catalog.find(name) if name else None
        if found:
            via = f"made from {model.parent}; " if name == model.parent else ""
            return found, (via + found.reason,)
    return _first(direct + lineage, catalog, model)


def stated_repositories(info: dict[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the repositories that a GGUF file's metadata names, with their key, best evidence first.

    First those that the file was made from, then its own name and the model that it was tuned from: converters
    copy `base_model` from the original's card, where it is the ancestor, not the model itself.
    """
    info = {key: value for key, value in info.items() if isinstance(value, str | int)}
    direct = _urls(info, ("general.source.huggingface.repository", "general.source.repo_url", "general.source.url",
                          "general.repo_url"))  # fmt: skip
    count = info.get("general.base_model.count")
    if isinstance(count, int) and count > 1:    # a merge of several models is none of them
        return direct, []
    lineage = []
    base, owner = info.get("general.basename"), info.get("general.organization")
    owners = (owner, info.get("general.base_model.0.organization"))
    if base and any(owners):
        parts = (base, info.get("general.size_label"), info.get("general.finetune"), info.get("general.version"))
        name = "-".join(_dashed(part) for part in parts if part)
        lineage += [(f"{_dashed(owner)}/{name}", "general.basename") for owner in owners if owner]
    lineage += _urls(info, ("general.base_model.0.repo_url",))
    if owners[1] and info.get("general.base_model.0.name"):
        name = _dashed(info["general.base_model.0.name"])
        lineage.append((f"{_dashed(owners[1])}/{name}", "general.base_model.0.name"))
    return direct, lineage


def _urls(info: dict[str, Any], keys: tuple[str, ...]) -> list[tuple[str, str]]:
    told = [(_HUB_URL.match(str(info.get(key) or "").strip()), key) for key in keys]
    return [(_GGUF.sub("", url["repo"]), key) for url, key in told if url]


def _dashed(value: Any) -> str:
    return re.sub(r"\s+", "-", str(value).strip())


def _first(
    stated: list[tuple[str, str]], catalog: Catalog, model: Model
) -> tuple[Found | None, tuple[str, ...]]:
    told = [(repo, f"its file says that it comes from {repo} ({key})", "base_model" in key) for repo, key in stated]
    for repo, why, ancestor in told:
        found, reasons = _from_hub(repo, why, catalog, model, ancestor=ancestor)
        if found:
            return found, reasons
    if told:
        return None, (f"{told[-1][1]}, {_NAME_IT}",)
    return None, (UNKNOWN,)


def _from_hub(
    repo: str, why: str, catalog: Catalog, model: Model, *, ancestor: bool = False
) -> tuple[Found | None, tuple[str, ...]]:
    known = catalog.by_repo(repo)
    entry = known[0] if known else _by_last_part(repo, catalog)
    if entry is None or (known is None and _ALTERED.search(repo)):
        return None, (f"{why}, {_NAME_IT}",)
    tuned = str(model.architecture.get("general.finetune") or "").lower()
    words = set(re.split(r"[^a-z0-9.]+", tuned)) - {""}
    strange = sorted(words - _CHAT - set(re.split(r"[^a-z0-9.]+", entry.repo.lower())))
    if ancestor and strange:
        said = f"{why} but was tuned further ({tuned}): its own repository is another one; name it in migrate.yaml"
        return Found(entry, "guess", entry.repo, said), (said,)
    base = entry.base_repo if entry.base_repo and _last(entry.base_repo) == _last(repo) else None
    tuned_for_chat = ancestor and (words or _chats(model))
    return Found(entry, "likely", entry.repo if tuned_for_chat else base or entry.repo, why), (why,)


def _chats(model: Model) -> bool:
    """Tell whether the template has turns: that of a base model is the prompt alone, or nothing."""
    template = (model.template or "").replace(" ", "")
    return "tools" in model.capabilities or template not in ("", "{{.Prompt}}")


def _by_last_part(repo: str, catalog: Catalog) -> Entry | None:
    """Match by name: the uploader of a GGUF file is seldom the author of the weights, so no owner is guessed."""
    last = _last(repo)
    owner_prefix = last.partition("_")[2]   # bartowski writes owner_Model
    wanted = {last, owner_prefix} - {""}
    same = [
        entry
        for entry in catalog.entries
        if wanted & {_last(known) for known in (entry.repo, *entry.aliases, *filter(None, [entry.base_repo]))}
    ]
    return same[0] if len({entry.repo for entry in same}) == 1 else None


def _last(repo: str) -> str:
    return repo.rsplit("/", 1)[-1].lower()
