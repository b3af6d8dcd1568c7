"""Context, parallel requests and the cache's type share one room, so they are chosen together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.readings import number
from orchestrator.decide.tuning.state import KV_BITS, State

_MOST_PARALLEL = 8      # more than that is what vLLM is for; S1's example, too
HALF = KV_BITS["q8_0"] / 16
_BLIND = 4              # where the free memory is not known
_ENOUGH = 20            # requests
_DAY = 86400.0          # seconds; a shorter log does not show the longest prompt
ALLOWS = " is what the free VRAM allows"


@dataclass(frozen=True, slots=True)
class Joint:
    """What belongs together: context, parallel requests and the cache's type share one room."""

    context: int
    context_why: str
    parallel: int
    parallel_why: str
    halved: bool


def joint(state: State) -> Joint:
    """Return what the evidence asks for, as far as the room on the GPU goes."""
    context, context_why = _wanted_context(state)
    wanted, why = _wanted_parallel(state)
    one, more = state.cache(context, batched=True), more_for(state, context)
    if wanted <= state.parallel:
        return Joint(context, context_why, state.parallel, why, False)
    if not one or more is None:
        why += "; the size of its cache is not known, so go step by step and watch `ollama ps` for a share of CPU"
        return Joint(context, context_why, state.parallel + 1, why, False)
    if state.room is None:
        most = max(state.parallel, min(wanted, _BLIND))
        return Joint(context, context_why, most, f"{why}; free memory is not known, so check that it fits", False)
    left = state.room - more
    plain = _fits(state, left, one, state.kv_bits)
    if plain < wanted and state.kv_bits == 16:
        halved = _fits(state, left + one * state.parallel * (1 - HALF), one, 16 * HALF)
        if halved > max(plain, state.parallel):
            return Joint(context, context_why, min(wanted, halved), _fitting(why, wanted, halved), True)
    plain = max(state.parallel, min(wanted, plain))
    return Joint(context, context_why, plain, _fitting(why, wanted, plain), False)


def _fits(state: State, left: float, one: int, bits: float) -> int:
    """Requests at once for which `left` bytes more are enough; `one`: the cache of one at 16 bit."""
    return state.parallel + math.floor(left / (one * bits / 16)) if left > 0 else state.parallel


def _fitting(why: str, wanted: int, fits: int) -> str:
    return why if fits >= wanted else f"{why}; {fits}{ALLOWS}"


def _wanted_parallel(state: State) -> tuple[int, str]:
    traffic = state.facts.traffic
    usual = number(traffic.concurrency.p95) or number(traffic.concurrency.peak)
    if state.resident and all(one.forced for one in state.resident):
        names = ", ".join(one.model.name for one in state.resident)
        return state.parallel, f"Ollama answers one request at a time with {names}, whatever is set"
    if not usual:
        return state.parallel, "how many requests come at once is not known"
    word = "stated" if traffic.source == "stated" else "measured"
    if usual <= state.parallel:
        return state.parallel, f"{usual:g} at once ({word}) is no more than that"
    wanted = min(_MOST_PARALLEL, math.ceil(usual))
    return wanted, f"{usual:g} at once ({word}), and {state.parallel} answered at a time: the others wait"


def _wanted_context(state: State) -> tuple[int, str]:
    traffic = state.facts.traffic
    longest = max((one.numbers.max_context or 0 for one in state.resident), default=0)
    if traffic.truncated:
        wanted = min(2 * state.context, longest or 2 * state.context)
        if wanted > state.context and _affordable(state, wanted):
            return wanted, f"{traffic.truncated} prompts were cut silently"
        return state.context, f"{traffic.truncated} prompts were cut silently, but the VRAM or the model allows no more"
    prompt, answer = number(traffic.prompt_tokens.peak), number(traffic.output_tokens.peak)
    if prompt and traffic.prompt_tokens.n >= _ENOUGH and traffic.seconds >= _DAY:
        needed = 1.25 * (prompt + (answer or 1024))
        wanted = max(4096, 2 ** math.ceil(math.log2(needed)))
        if wanted < state.context:
            return wanted, f"the longest of {traffic.prompt_tokens.n} prompts had {prompt:.0f} tokens; 25 % on top"
        return state.context, f"the longest prompt had {prompt:.0f} tokens"
    return state.context, "pinned as it is: else more VRAM or another GPU changes it silently"


def _affordable(state: State, context: int) -> bool:
    extra = more_for(state, context)
    return extra is not None and state.room is not None and extra <= state.room


def more_for(state: State, context: int) -> int | None:
    """Bytes more for another context with today's parallel requests; never less than what is held."""
    then, now = state.cache(context), state.cache()
    if then is None or now is None:
        return None
    alone = (state.cache(context, batched=True) or 0) - (state.cache(batched=True) or 0)
    more = math.ceil(((then - now) + alone * (state.parallel - 1)) * state.kv_bits / 16)
    return more if state.held is None else max(more, -state.held)
