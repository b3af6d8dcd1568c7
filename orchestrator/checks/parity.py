"""Smoke parity: the same prompts to both sides, plain and streaming, judged as a caller would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, get_args

import httpx

from orchestrator.checks import Judgement, Side, Verdict
from orchestrator.checks.parity_rules import Mode, Pair, Record, Terms, find
from orchestrator.checks.prompts import Prompt, load_prompts
from orchestrator.checks.waiting import together
from orchestrator.clients.answers import Answer, read_plain, read_stream
from orchestrator.clients.stream import open_client

Progress = Callable[[int, int, str], None]
# A gateway's word for "no engine behind me".
_NOBODY = (502, 503, 504)


class SideLost(Exception):
    """A side gave no answer; `side` is its name."""

    def __init__(self, side: str, why: str) -> None:
        super().__init__(why)
        self.side = side


def check_parity(
    ollama: Side,
    vllm: Side,
    model: str,
    *,
    prompts: Sequence[Prompt] | None = None,
    names: Sequence[str] = (),
    similarity: float | None = None,
    max_tokens: int = 48,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
) -> Verdict:
    """Ask both sides and judge; `names` may be echoed besides `model`, `progress` gets (done, of, prompt id)
    twice a second or more, and may end the check by raising.

    `similarity` makes the texts count (1.0 where both sides run the same weights). A side that cannot be
    reached makes the verdict inconclusive; a vLLM that stops answering on the way makes it fail.
    """
    terms = Terms(model, tuple(names), similarity)
    chosen = load_prompts() if prompts is None else prompts
    return judge_lines(ask_pairs(ollama, vllm, model, chosen, max_tokens, timeout_s, progress), terms)


def ask_pairs(
    ollama: Side,
    vllm: Side,
    model: str,
    prompts: Sequence[Prompt],
    max_tokens: int,
    timeout_s: float,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Return the raw lines: a `pair` per prompt and mode, and `lost` where a side gave no answer."""
    pairs: list[Pair] = []
    gone: list[dict[str, Any]] = []
    try:
        asyncio.run(_ask_all((ollama, vllm), prompts, pairs, model, max_tokens, timeout_s, progress))
    except SideLost as lost:
        gone = [{"kind": "lost", "side": lost.side, "why": str(lost)}]
    return [{"kind": "pair", **asdict(pair)} for pair in pairs] + gone


def judge_lines(lines: Iterable[dict[str, Any]], terms: Terms) -> Verdict:
    """The verdict from raw lines of the kinds `pair` and `lost`; others are not looked at."""
    pairs: list[Pair] = []
    for line in lines:
        if line["kind"] == "pair":
            pairs.append(_pair(line))
        elif line["kind"] == "lost":
            return _lost(SideLost(line["side"], line["why"]), pairs, terms)
    return judge_parity(pairs, terms)


def recompute(lines: Iterable[dict[str, Any]]) -> Verdict:
    """The verdict of the gate `parity` from its raw lines alone: smoke, and the answers of the suites."""
    from orchestrator.checks.answers.whole import recompute as whole

    return whole(lines)


def judge_parity(pairs: Sequence[Pair], terms: Terms) -> Verdict:
    """The verdict from the records alone."""
    findings = find(pairs, terms)
    evidence = {**_evidence(pairs, terms), "findings": [finding.to_json() for finding in findings]}
    failed = [finding for finding in findings if finding.level == "fail"]
    if failed:
        first = failed[0]
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        summary = f"{first.prompt} ({first.mode}): {first.detail}{more}"
        return Verdict("parity", terms.model, "fail", summary, evidence)
    if not any(pair.answered for pair in pairs):
        return Verdict("parity", terms.model, "inconclusive", "no prompt was answered by both sides", evidence)
    alike = evidence["similarity_mean"]
    summary = f"{len({p.prompt for p in pairs})} prompts, plain and streaming; texts {alike:.0%} alike"
    return Verdict("parity", terms.model, "pass", summary, evidence)


def rejudge(evidence: dict[str, Any]) -> Verdict:
    """The verdict again, from a parity verdict's evidence alone."""
    pairs = [_pair(entry) for entry in evidence["pairs"]]
    given = evidence["terms"]
    terms = Terms(given["model"], tuple(given["names"]), given["similarity"])
    if "lost" in evidence:
        return _lost(SideLost(**evidence["lost"]), pairs, terms)
    return judge_parity(pairs, terms)


def _pair(entry: dict[str, Any]) -> Pair:
    own = {key: value for key, value in entry.items() if key not in ("kind", "similarity")}
    return Pair(**{**own, "ollama": Record(**entry["ollama"]), "vllm": Record(**entry["vllm"])})


def _evidence(pairs: Sequence[Pair], terms: Terms) -> dict[str, Any]:
    answered = [pair.similarity for pair in pairs if pair.answered]
    return {
        "terms": asdict(terms),
        "similarity_mean": sum(answered) / len(answered) if answered else None,
        "pairs": [{**asdict(pair), "similarity": round(pair.similarity, 4)} for pair in pairs],
    }


def _lost(lost: SideLost, pairs: Sequence[Pair], terms: Terms) -> Verdict:
    evidence = {**_evidence(pairs, terms), "lost": {"side": lost.side, "why": str(lost)}}
    place = f"after {len(pairs)} answers" if pairs else "at the first prompt"
    result: Judgement = "fail" if lost.side == "vllm" and pairs else "inconclusive"
    return Verdict("parity", terms.model, result, f"{lost.side} gave no answer {place}: {lost}", evidence)


async def _ask_all(
    sides: tuple[Side, Side],
    prompts: Sequence[Prompt],
    pairs: list[Pair],
    model: str,
    max_tokens: int,
    timeout_s: float,
    progress: Progress | None,
) -> None:
    """Fill `pairs`, so that what was answered survives a side that is lost."""
    old, new = (open_client(side.base_url, headers=side.headers, idle_s=timeout_s) for side in sides)
    async with old, new:
        for done, prompt in enumerate(prompts):
            tell = partial(progress, done, len(prompts), prompt.id) if progress else None
            for mode in get_args(Mode):
                body = prompt.body(model, max_tokens, stream=mode == "stream")
                asked = [_ask(old, "ollama", body, timeout_s), _ask(new, "vllm", body, timeout_s)]
                theirs, ours = await together(asked, tell)
                pairs.append(Pair(prompt.id, mode, theirs, ours, prompt.params, prompt.expect.finish_reason))


async def _ask(client: httpx.AsyncClient, side: str, body: dict[str, Any], timeout_s: float) -> Record:
    extensions = {"total": timeout_s}
    pieces: list[tuple[int, bytes]] = []
    late = None
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body, extensions=extensions) as response:
            exchange = response.extensions["exchange"]
            pieces = exchange.pieces
            await exchange.finished()
    except httpx.HTTPError as failure:
        why = f"{type(failure).__name__}: {failure}"
        if not pieces:
            raise SideLost(side, why) from failure
        late = why if isinstance(failure, httpx.TimeoutException) else None  # else it reads as truncated
    if response.status_code in _NOBODY:
        raise SideLost(side, f"status {response.status_code}")
    whole = b"".join(data for _, data in pieces)
    answer = read_stream(response.status_code, pieces) if body["stream"] else read_plain(response.status_code, whole)
    answer.error = answer.error or late
    return _record(answer)


def _record(answer: Answer) -> Record:
    return Record(
        status=answer.status,
        ending=answer.ending,
        text=answer.reasoning + answer.text,
        finish_reason=answer.finish_reason,
        model=answer.model,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        increments=len(answer.stamps),
        arrivals=len(set(answer.stamps)),
        error=answer.error,
    )
