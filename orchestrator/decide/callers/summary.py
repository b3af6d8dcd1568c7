"""What a scan of the callers' source means for a plan, joined with what the log shows. Pure."""

from __future__ import annotations

from orchestrator.facts import Caller, Facts

_MOST = 6           # places that are named of one kind
HOW = "migrate plan --scan PATH finds the places in source and says of each whether it keeps working"
_NATIVE = ("native", "sdk", "command", "setting")
_ELSEWHERE = "a caller lies outside of what was scanned"
_SHARE = 0.05       # of requests: less is somebody's try


def lines(facts: Facts) -> list[str]:
    """Return who calls, one sentence each: what the log saw, what the source shows, and where both disagree."""
    live = [one for one in facts.callers if one.kind != "doc"]
    seen = _log(facts, all_work=all(one.works for one in live))
    if facts.scanned is None and not facts.callers:
        return [*seen, f"which places in source call is not known: {HOW}"] if seen else [
            f"who calls is not known: nothing that was read tells; {HOW}"]  # fmt: skip
    return [*seen, *_source(live, facts.scanned), *_apart(live, facts)]


def _log(facts: Facts, *, all_work: bool) -> list[str]:
    traffic = facts.traffic
    if not traffic.callers:
        return []
    native = "" if traffic.native is None else f"; {traffic.native:.0%} of requests speak the native API, the rest /v1"
    same = ": all keep working as they are" if all_work else ""
    return [f"{_count(len(traffic.callers), 'caller')} seen{native}{same}"]


def _source(live: list[Caller], scanned: int | None) -> list[str]:
    read = f" ({_count(scanned, 'file')} read)" if scanned is not None else ""
    if not live:
        return [f"no place in the source that was scanned talks to Ollama{read}"]
    differs: dict[str, list[Caller]] = {}
    for one in live:
        if not one.works:
            differs.setdefault(one.note, []).append(one)
    files, other = len({one.path for one in live}), sum(map(len, differs.values()))
    same = f"{_keep(len(live) - other)} working unchanged, {other} would not" if other else "all keep working unchanged"
    found = [f"source: {_count(len(live), 'place')} in {_count(files, 'file')} talk to Ollama{read}: {same}"]
    found += [f"{_places(some)}: {note}" for note, some in sorted(differs.items(), key=lambda one: -len(one[1]))]
    # Works only where this holds, so it is to be read although nothing is to be changed.
    conditions = dict.fromkeys(one.note for one in live if one.works and one.note.startswith("works when"))
    return [*found, *(f"{_places([one for one in live if one.note == note])}: {note}" for note in conditions)]


def _apart(live: list[Caller], facts: Facts) -> list[str]:
    """Say which traffic no scanned place explains: its caller lies elsewhere."""
    native = facts.traffic.native
    if native is None or facts.traffic.source not in ("log", "watch"):
        return []
    v1 = any(one.kind == "v1" or "/v1" in one.text for one in live)
    # A bare address may be either's.
    own = any(one.kind in _NATIVE or (one.kind != "v1" and "/v1" not in one.text) for one in live)
    unsaid = any(one.kind in ("url", "env", "port") and "/v1" not in one.text for one in live)
    found = []
    if native > _SHARE and not own:
        found.append(f"{native:.0%} of the log's requests speak the native API and no scanned place does: {_ELSEWHERE}")
    if 1 - native > _SHARE and not v1 and not unsaid:
        found.append(f"{1 - native:.0%} of the log's requests go to /v1 and no scanned place does: {_ELSEWHERE}")
    return found


def _places(some: list[Caller]) -> str:
    named = list(dict.fromkeys(f"{one.path}:{one.line}" for one in some))
    more = len(named) - _MOST
    return ", ".join(named[:_MOST]) + (f" and {more} more (migrate scan PATH lists them)" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _keep(number: int) -> str:
    return f"{number} {'keeps' if number == 1 else 'keep'}"
