"""What today's Ollama could be set to, for those who stay: each setting's price in VRAM and what it really does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.decide.readings import whole
from orchestrator.decide.tuning.plan import ALLOWS, HALF, Joint, joint, more_for
from orchestrator.decide.tuning.state import LLAMA_SERVER, State, default_context, footprint, look, seen
from orchestrator.decide.vram import gib
from orchestrator.facts import Facts
from orchestrator.names import canonical


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable of Ollama's environment. vram_cost: bytes more (or fewer) than today; None: cannot be said.

    `today` names a default as such; `proposed` is the bare value, or `unset`.
    """

    name: str
    today: str
    proposed: str
    why: str
    vram_cost: int | None
    really: str     # what the running version does with it

    @property
    def changes(self) -> bool:
        """Whether there is something to set; a context that is only a default is worth pinning."""
        if self.today.startswith("withheld"):
            return False
        pinned = self.name == "OLLAMA_CONTEXT_LENGTH" and " (" in self.today
        return pinned or self.today.split(" ")[0] != self.proposed


def tuning(facts: Facts) -> list[Setting]:
    """Return the seven settings, and those that are set to no effect."""
    state = look(facts)
    plan = joint(state)
    found = [_parallel(state, plan), _loaded(state), _queue(state), _context(state, plan), _flash(state, plan),
             _cache(state, plan), _keep(state)]  # fmt: skip
    return [*found, *_useless(state)]


def _today(state: State, name: str, default: str) -> str:
    if state.env is None:
        return f"{default} (default; Ollama's environment cannot be seen from here)"
    if name in _withheld(state):
        return "withheld (its value was not read)"
    value = state.env.get(name, "").strip()
    return value or f"{default} (default)"


def _withheld(state: State) -> tuple[str, ...]:
    return state.facts.ollama.container.withheld if state.facts.ollama.container else ()


def _scaled(cache: int | None, times: float, bits: float = 16) -> int | None:
    return None if cache is None else math.ceil(cache * times * bits / 16)


def _parallel(state: State, plan: Joint) -> Setting:
    old = state.version < (0, 10, 0)
    default = "4 or 1, by memory" if old else "1"
    really = ("default 1 since 0.10; N requests of a loaded model are batched together; their contexts are allocated "
              "at once, so N x the KV cache. What waits beyond N waits without limit and without an error")  # fmt: skip
    cost = _scaled(state.cache(plan.context, batched=True), plan.parallel - state.parallel, state.kv_bits)
    today = _today(state, "OLLAMA_NUM_PARALLEL", default)
    kept = plan.parallel == state.parallel
    return Setting("OLLAMA_NUM_PARALLEL", today, str(plan.parallel), plan.parallel_why, 0 if kept else cost, really)


def _loaded(state: State) -> Setting:
    name = "OLLAMA_MAX_LOADED_MODELS"
    default = 3 * max(1, len(state.gpus))
    limit = whole((state.env or {}).get(name)) or default
    really = "default 3 for each GPU; a model that does not fit beside the others waits until they are idle, and evicts"
    facts = state.facts
    used = {canonical(one) for one in facts.traffic.models or {}} | {canonical(one.name) for one in facts.ollama.loaded}
    models = [seen(facts, one, state.context) for one in facts.ollama.models
              if canonical(one.name) in used and not one.remote_host]  # fmt: skip
    today = _today(state, name, str(default))
    if not used:
        return Setting(name, today, str(limit), "which models are used is not known", 0, really)
    more = sum(footprint(one, state.parallel, state.kv_bits) for one in models if one.loaded is None)
    if len(models) <= limit:
        return Setting(name, today, str(limit), f"{len(models)} in use, as far as is known: enough", 0, really)
    if state.room is not None and more <= state.room:
        return Setting(name, today, str(len(models)), f"{len(models)} in use, and they fit together", more, really)
    why = f"{len(models)} in use, but together they need {gib(more)} more than is loaded: they take turns"
    return Setting(name, today, str(limit), why, 0, really)


def _queue(state: State) -> Setting:
    name = "OLLAMA_MAX_QUEUE"
    limit = whole((state.env or {}).get(name)) or 512
    really = ("bounds only requests that wait for a model to load: 503 beyond it; the queue of a loaded model "
              "has no end, so it neither shortens waiting nor refuses anybody")  # fmt: skip
    busy = state.facts.traffic.busy
    today = _today(state, name, "512")
    if busy:
        why = f"{busy} were refused with 503 while models changed; more models loaded at once helps more"
        return Setting(name, today, str(max(1024, 2 * limit)), why, 0, really)
    return Setting(name, today, str(limit), "no refusal was seen", 0, really)


def _context(state: State, plan: Joint) -> Setting:
    default = default_context(state.facts, state.version)
    own = [one.model.name for one in state.resident if "num_ctx" in one.model.parameters]
    really = "default by the VRAM of all GPUs since 0.15.5: 4096, 32768 from 23 GiB, 262144 from 47 GiB"
    if state.version < (0, 15, 5):
        really = f"default {default} in this version"
    really += "; a request's num_ctx or a Modelfile's wins, and each change of it reloads the model; /v1 cannot set it"
    if own:
        really += f"; {', '.join(own)} sets its own"
    today = _today(state, "OLLAMA_CONTEXT_LENGTH", str(default))
    if state.context_from == "of what is loaded" and state.context != default:
        today = f"{state.context} ({state.context_from})"
    cost = 0 if plan.context == state.context else more_for(state, plan.context)
    return Setting("OLLAMA_CONTEXT_LENGTH", today, str(plan.context), plan.context_why, cost, really)


def _flash(state: State, plan: Joint) -> Setting:
    name = "OLLAMA_FLASH_ATTENTION"
    value = (state.env or {}).get(name, "").strip().lower()
    auto = state.version >= LLAMA_SERVER
    today = _today(state, name, "unset")
    really = "unset: used where the GPU can; 1 or 0 forces it" if auto else "off in many cases before 0.30 unless set"
    really += "; a quantised KV cache needs it"
    if value in ("0", "false", "f"):
        return Setting(name, today, "unset" if auto else "1", "it is off, and saves memory and time", None, really)
    if not value and (not auto or plan.halved):
        return Setting(name, today, "1", "less memory for long contexts; the KV cache type depends on it", None, really)
    return Setting(name, today, value or "unset", "nothing to gain", 0, really)


def _cache(state: State, plan: Joint) -> Setting:
    name = "OLLAMA_KV_CACHE_TYPE"
    value = (state.env or {}).get(name, "").strip().lower()
    really = "f16 unless set; q8_0 is about half, q4_0 a quarter of it and costs quality, most with long contexts"
    today = _today(state, name, "f16")
    spilled = any(one.loaded and one.loaded.spilled for one in state.resident)
    if (plan.halved or (spilled and state.gpus)) and state.kv_bits == 16:
        whole_cache = _scaled(state.cache(plan.context, batched=True), plan.parallel)
        saved = None if whole_cache is None else -math.floor(whole_cache * (1 - HALF))
        why = "a model lies partly in the host's memory" if spilled else "makes room for the requests at once"
        return Setting(name, today, "q8_0", f"{why}; compare answers before and after", saved, really)
    why = "set already" if value else "nothing shows a need"
    if plan.parallel_why.endswith(ALLOWS):
        why = "half the cache would not hold one request more"
    return Setting(name, today, value or "f16", why, 0, really)


def _keep(state: State) -> Setting:
    name = "OLLAMA_KEEP_ALIVE"
    value = (state.env or {}).get(name, "").strip()
    really = "5m unless set; negative: for ever; a request's keep_alive wins; a bare number is seconds"
    today = _today(state, name, "5m")
    held = [one.loaded for one in state.resident if one.loaded]
    names = {canonical(one.name) for one in held}
    others = {canonical(one) for one in state.facts.traffic.models or {}} - names
    if value.startswith("-"):
        return Setting(name, today, value, "loaded models stay already", 0, really)
    if held and not others and not any(one.spilled for one in held) and state.facts.traffic.requests:
        size = sum(one.size_vram or one.size for one in held)
        why = f"no caller waits for a load; {gib(size)} that are freed after a pause today stay taken"
        return Setting(name, today, "-1", why, 0, really)
    return Setting(name, today, value or "5m", "nothing shows that loads cost anybody time", 0, really)


def _useless(state: State) -> list[Setting]:
    """What is set and does nothing."""
    env = state.env or {}
    found = []
    if env.get("OLLAMA_GPU_OVERHEAD", "").strip() not in ("", "0") and state.version >= LLAMA_SERVER:
        really = "a line in the log only; LLAMA_ARG_FIT_TARGET (MiB to leave free after a load) replaces it"
        found.append(_dead("OLLAMA_GPU_OVERHEAD", env, "it reserves nothing since 0.30", really))
    if "OLLAMA_MAX_VRAM" in env:
        found.append(_dead("OLLAMA_MAX_VRAM", env, "it was removed long ago", "ignored"))
    return found


def _dead(name: str, env: dict[str, str], why: str, really: str) -> Setting:
    return Setting(name, env[name], "unset", why, 0, really)
