"""The LoRA adapters of a stack file: which its engines load, what is wrong with them, and what they take of a GPU."""

from __future__ import annotations

from orchestrator.decide.catalog import Catalog, Numbers, load, without_lora
from orchestrator.decide.lora import MOST_SLOTS, Adapter, adapter, arguments, base_doubt, base_problem
from orchestrator.decide.mapping import has_adapter, is_local
from orchestrator.decide.vllm_flags import read
from orchestrator.errors import UsageError
from orchestrator.facts import AdapterFacts, Facts
from orchestrator.names import canonical
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

FOLDER = "/migrate/adapters"    # inside an engine's container
_UNSEEN_RANK = 64               # where nobody has looked at an adapter: holds nearly all of them


def mounted(engine: Engine, where: str) -> bool:
    """Tell whether a path lies below one of the engine's own mounts: then it is one inside the container."""
    targets = [mount.split(":")[1] for mount in engine.volumes if ":" in mount]
    return any(where == target or where.startswith(target.rstrip("/") + "/") for target in targets)


def on_host(engine: Engine, where: str) -> str | None:
    """Return an adapter's directory on the host; None for a repository, and for what a named volume holds."""
    if not is_local(where):
        return None
    if not mounted(engine, where):
        return where
    for source, target in (mount.split(":")[:2] for mount in engine.volumes if ":" in mount):
        inner = target.rstrip("/")
        if (where == inner or where.startswith(inner + "/")) and source.startswith(("/", ".", "~")):
            return source.rstrip("/") + where[len(inner) :]
    return None


def inside(engine: Engine, name: str) -> str:
    """Return what --lora-modules says of an adapter: a path inside the container, or a repository."""
    where = engine.adapters[name]
    return where if not is_local(where) or mounted(engine, where) else f"{FOLDER}/{name}"


def mounts(engine: Engine) -> list[str]:
    """Return a read-only mount for each adapter directory that no mount of the user's brings in."""
    found = []
    for name, where in engine.adapters.items():
        if is_local(where) and not mounted(engine, where):
            source = where if where.startswith(("/", ".", "~")) else f"./{where}"
            found.append(f"{source.rstrip('/') or '/'}:{FOLDER}/{name}:ro")
    return found


def seen(spec: Spec, engine: str, name: str, facts: Facts | None) -> AdapterFacts | None:
    """Return what was seen of an adapter, if it was seen where the file names it now."""
    where = spec.engines[engine].adapters[name]
    known = facts.adapters if facts else ()
    return next((one for one in known if (one.engine, one.name, one.where) == (engine, name, where)), None)


def of_engine(spec: Spec, engine: str, facts: Facts | None, numbers: Numbers | None = None) -> tuple[Adapter, ...]:
    """Return an engine's adapters, with the path that its container sees, in the file's order."""
    one, found = spec.engines[engine], []
    for name in one.adapters:
        known = seen(spec, engine, name, facts)
        where = inside(one, name)
        if known and known.config:
            found.append(adapter(name, where, known.config, numbers or Numbers(), known.size, known.tensors))
        else:
            found.append(Adapter(name, where, "", _UNSEEN_RANK, (), known.size if known else None))
    return tuple(found)


def slots(engine: Engine) -> int:
    """Return how many adapters one batch may mix; each takes its room on the GPU, used or not."""
    return max(1, min(len(engine.adapters), engine.max_num_seqs, MOST_SLOTS))


def flags(spec: Spec, engine: str, facts: Facts | None) -> list[str]:
    """Return the flags that load an engine's adapters; none without adapters."""
    return list(arguments(of_engine(spec, engine, facts), slots(spec.engines[engine])))


def served(spec: Spec, route: str) -> str:
    """Return the name under which vLLM answers for a route: its adapter's, else its own.

    vLLM runs without validation of names, so that any other would silently be answered by the base model.
    """
    return spec.routes[route].adapter or route


def problems(spec: Spec, facts: Facts, catalog: Catalog | None = None) -> list[str]:
    """Return why adapters cannot be served, each with its path in the file."""
    catalog = catalog or load()
    found = []
    for engine, one in spec.engines.items():
        known = catalog.by_repo(one.repo)
        kinds = _classes(one.repo, known[0].architecture if known else "", facts)
        if one.adapters and (bare := kinds & without_lora()):
            found.append(f"engines/{engine}/adapters: vLLM {catalog.vllm} loads no LoRA for {', '.join(sorted(bare))}")
        for got in of_engine(spec, engine, facts, known[0].numbers if known else Numbers()):
            looked = seen(spec, engine, got.name, facts)
            wrong = [looked.problem] if looked and looked.problem else [*got.problems]
            wrong += [other] if (other := base_problem(got, one.repo, catalog)) else []
            found += [f"engines/{engine}/adapters/{got.name}: {text}" for text in wrong]
            found += _too_high(one, engine, got)
    return found + _unadapted(spec, facts, catalog)


def _classes(repo: str, known: str, facts: Facts) -> set[str]:
    """Return the model's class as its own config.json names it, else as the catalogue does."""
    told = next((one.config.get("architectures") for one in facts.hub if one.repo == repo), None)
    named = {one for one in told if isinstance(one, str)} if isinstance(told, list) else set()
    return named or ({known} if known else set())


def _too_high(engine: Engine, name: str, got: Adapter) -> list[str]:
    option = read([*engine.extra_args, *engine.vllm.args]).get("--max-lora-rank")
    said = option.value if option and option.value else ""
    most = int(said) if said.isdecimal() else None
    if most is None or got.rank <= most or not got.base:
        return []
    return [f"engines/{name}/adapters/{got.name}: its rank {got.rank} is above --max-lora-rank {most} in vllm.args"]


def _unadapted(spec: Spec, facts: Facts, catalog: Catalog) -> list[str]:
    """Name routes that would lose the adapter of their Modelfile: a repository made by merging it is none we know."""
    lost = {canonical(model.name) for model in facts.ollama.models if has_adapter(model)}
    return [
        f"routes/{model}: its Modelfile has an ADAPTER, and {spec.engines[route.engine].repo} alone would answer; "
        "a GGUF adapter alone cannot be loaded by vLLM; name its PEFT directory under engines.NAME.adapters, and that "
        "adapter under routes.MODEL.adapter"
        for model, route in spec.routes.items()
        if route.engine and route.adapter is None and canonical(model) in lost
        and catalog.by_repo(spec.engines[route.engine].repo)
    ]  # fmt: skip


def doubts(spec: Spec, facts: Facts, catalog: Catalog) -> list[str]:
    """Return what nobody could check of the adapters, for the proof."""
    found = []
    named = {(route.engine, route.adapter) for route in spec.routes.values()}
    for engine, one in spec.engines.items():
        for got in of_engine(spec, engine, facts):
            at = f"engine {engine}: adapter {got.name}"
            looked = seen(spec, engine, got.name, facts)
            if looked is None or not looked.config:
                why = f" ({looked.doubt})" if looked and looked.doubt else ""
                found.append(f"{at} was not looked at{why}; counted with rank {_UNSEEN_RANK}")
            elif doubt := base_doubt(got, one.repo, catalog):
                found.append(f"{at}: {doubt}")
            if (engine, got.name) not in named:
                found.append(f"{at} is loaded, but no route answers with it: name it in routes/MODEL/adapter")
    return found


def require(spec: Spec, facts: Facts, where: str) -> None:
    """Raise UsageError with every adapter that vLLM would refuse."""
    found = problems(spec, facts)
    if found:
        count = f"{len(found)} problem{'s' if len(found) != 1 else ''} with LoRA adapters"
        raise UsageError(f"{where}: {count}", evidence="\n".join(found), hint=f"edit {where}")
