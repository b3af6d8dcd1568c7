"""The gateway takes Ollama's published port, or gives it back; done by a helper that outlives this command."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator import render
from orchestrator.clients import gpu
from orchestrator.clients.docker import ContainerFacts, ollama_port
from orchestrator.errors import MigrateError, UsageError
from orchestrator.events import Kind
from orchestrator.rendering.surface import keys_mount
from orchestrator.state import Event, StackState
from orchestrator.steps import Context, swap_helper
from orchestrator.steps.reload import note_started
from orchestrator.steps.services import StartService, container_of, is_up
from orchestrator.steps.swap_plan import ComposeService, PlainContainer, SwapPlan, SwapResult, TempGateway
from orchestrator.stop import poll

PARKED = "{}-before-migrate"
SPARE = 2**30   # bytes kept free beside two loaded Ollamas


def settle(context: Context, *, leaving: bool = False) -> None:
    """Let a port swap of a killed run come to its end, and write down how it ended.

    With `leaving`, a swap that got stuck half-way counts as a take-over: its original must be restored.
    """
    _finish(context)
    last = swap_helper.last(context.dir)
    if last is None or not (last[1].outcome == "moved" or (leaving and last[1].outcome == "stuck")):
        return
    taken_over = context.journal.states().stack is StackState.TAKEN_OVER
    if last[1].outcome == "stuck" or (last[0].serves == "gateway") != taken_over:
        event = Event.RESTORED if taken_over and last[1].outcome == "moved" else Event.TOOK_OVER
        _tidy(context)
        context.journal.append("outcome", "swap", last[1].outcome, {"swap": dataclasses.asdict(last[1])})
        context.journal.move("stack", context.spec.name, event)


def preflight(context: Context) -> None:
    """Refuse beforehand what could only fail in the middle; raises UsageError or MigrateError."""
    if swap_helper.unfinished(context.dir) or context.journal.states().stack is StackState.TAKEN_OVER:
        return
    gateway = container_of(context, "gateway")
    if gateway and gateway.running:
        return
    for key, port in context.spec.gateway.ports().items():
        if key != "port":
            _free(context, port, f"gateway/{key}")
    if context.spec.ollama.container is None:
        _free(context, context.spec.gateway.port, "gateway/port")
    else:
        _same_port(context, _original(context))


def _free(context: Context, port: int, key: str) -> None:
    holder = context.docker.port_holder(port)
    if holder:
        raise MigrateError(
            f"port {port} ({key}) is already taken by {holder}",
            hint=f"stop what holds it, or choose another {key} in {context.dir / 'migrate.yaml'}",
        )


def _original(context: Context) -> ContainerFacts:
    name = context.spec.ollama.container or ""
    found = context.docker.find(name) or context.docker.find(PARKED.format(name))
    if found is None:
        raise MigrateError(
            f"the original container {name} is gone", hint="correct ollama/container in migrate.yaml, or start it"
        )
    return found


def _same_port(context: Context, original: ContainerFacts) -> None:
    """The gateway takes the original's own port, for clients must find it where they look."""
    port = context.spec.gateway.port
    own = [one.host_port for one in original.published(ollama_port(original))]
    if port not in own:
        shown = ", ".join(map(str, own)) or "no port"
        raise UsageError(
            f"gateway/port is {port}, but {original.name} publishes {shown}: there is nothing to take over there",
            hint=f"set gateway/port in {context.dir / 'migrate.yaml'} to the port that clients use",
        )


class OpenGateway(StartService):
    """Starts the gateway where it takes no port from anybody: Ollama runs elsewhere."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, "gateway")

    def already_done(self) -> bool:
        return self.context.journal.states().stack is StackState.TAKEN_OVER and super().already_done()

    def do(self) -> dict[str, Any]:
        outcome = super().do()
        self.context.journal.move("stack", self.context.spec.name, Event.TOOK_OVER)
        return outcome


class TakeOver:
    """Moves the port from the original Ollama to the gateway. Confirmed once, then carried through."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def already_done(self) -> bool:
        if swap_helper.unfinished(self.context.dir):
            return False
        return self.context.journal.states().stack is StackState.TAKEN_OVER

    def do(self) -> dict[str, Any]:
        settle(self.context)
        fresh = not self._has_port()
        if fresh:
            preflight(self.context)
            swap_helper.start(self.context.dir, take_over_plan(self.context))
        result = _follow(self.context, "take-over")
        _tidy(self.context)
        poll(self._gateway, 30, self.context.stop)
        self.context.journal.move("stack", self.context.spec.name, Event.TOOK_OVER)
        if fresh:
            note_started(self.context)
        return {"text": _words(result), "swap": dataclasses.asdict(result)}

    def undo(self) -> None:
        """The helper undoes its own work; it may still be at it."""

    def _has_port(self) -> bool:
        found = container_of(self.context, "gateway")
        parked = self.context.docker.find(PARKED.format(self.context.spec.ollama.container))
        return is_up(found) and parked is not None

    def _gateway(self) -> bool | None:
        try:
            self.context.gateway.status()
        except MigrateError:
            self.context.say("take-over", "waiting for the gateway's control door", Kind.WAIT)
            return None
        return True


class Restore:
    """Moves the port back to the original Ollama: started again as it was, never re-created."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def already_done(self) -> bool:
        return self.context.journal.states().stack is not StackState.TAKEN_OVER

    def do(self) -> dict[str, Any]:
        _finish(self.context)
        swap_helper.start(self.context.dir, restore_plan(self.context))
        result = _follow(self.context, "restore")
        _tidy(self.context)
        self.context.journal.move("stack", self.context.spec.name, Event.RESTORED)
        return {"text": _words(result), "swap": dataclasses.asdict(result)}

    def undo(self) -> None:
        """The helper undoes its own work."""


def take_over_plan(context: Context) -> SwapPlan:
    """Return the swap from the original container to the stack's gateway."""
    name, parked = context.spec.ollama.container or "", PARKED.format(context.spec.ollama.container)
    original = context.docker.find(name)
    # One that got stuck half-way left it parked: the swap goes on from there.
    restart = original.restart if original and original.restart != "no" else _restart_before(context)
    old = PlainContainer(name, parked, restart)
    return _swap(context, old, _gateway(context), serves="gateway")


def restore_plan(context: Context) -> SwapPlan:
    """Return the swap from the stack's gateway back to the original container."""
    name = context.spec.ollama.container or ""
    new = PlainContainer(name, PARKED.format(name), _restart_before(context))
    return _swap(context, _gateway(context), new, serves="ollama")


def _restart_before(context: Context) -> str:
    seen = context.facts.ollama.container if context.facts else None
    return seen.restart if seen else "unless-stopped"


def _gateway(context: Context) -> ComposeService:
    files = [context.dir / "compose.yaml"]
    if (context.dir / "compose.override.yaml").exists():
        files.append(context.dir / "compose.override.yaml")
    return ComposeService(context.project, str(context.dir), tuple(map(str, files)), "gateway")


def _swap(context: Context, old: Any, new: Any, *, serves: Any) -> SwapPlan:
    takeover = context.spec.takeover
    return SwapPlan(
        stack=context.spec.name,
        listen=(context.spec.gateway.listen,),
        port=context.spec.gateway.port,
        old=old,
        new=new,
        temp=_temp(context),
        sidecar_image=context.spec.images.sidecar,
        serves=serves,
        drain_s=takeover.drain,
        when_busy=takeover.when_busy,
        redirect="auto" if takeover.redirect and _room_for_two(context) else "never",
    )


def _room_for_two(context: Context) -> bool:
    """Whether both Ollamas may have their models loaded at once: while connections are redirected, they do."""
    facts, spec = context.facts, context.spec
    seen = gpu.look().gpus
    if spec.accelerator == "cpu" or facts is None or not seen:
        return True
    mine = set(spec.ollama.gpus)
    needed = sum(model.size_vram for model in facts.ollama.loaded) + SPARE
    free = sum(one.free for one in seen if not mine or one.index in mine or one.uuid in mine)
    if free < needed:
        text = f"a second copy of Ollama's models needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free: "
        context.say("take-over", text + "the two change back to back, with a short gap", Kind.WARN)
    return free >= needed


def swap_volume(context: Context) -> str:
    """Return the name of the volume that the temporary gateway keeps its state in."""
    return f"{context.project}_gateway-swap"


def _tidy(context: Context) -> None:
    with suppress(MigrateError):
        context.docker.volume_remove(swap_volume(context))


def _temp(context: Context) -> TempGateway:
    folder = context.dir / ".state" / "swap-gateway"
    rendered = render.render(context.spec, context.facts, role="swap")
    mine = {name: text for name, text in rendered.items() if name.startswith("gateway/")}
    render.write(folder, mine)
    # One token for both: the checks and the drain talk to either.
    token = context.dir / "secrets" / "control.token"
    etc = Path("/etc/gateway")
    keys = keys_mount(context.spec)
    return TempGateway(
        name=f"{context.project}-swap",
        image=context.spec.images.gateway,
        command=("openresty", "-c", "/etc/gateway/nginx.conf", "-g", "daemon off;"),
        mounts=(
            (str(folder / "gateway" / "nginx.conf"), str(etc / "nginx.conf"), True),
            (str(folder / "gateway" / "config.json"), str(etc / "config.json"), True),
            (str(folder / "gateway" / "lua"), str(etc / "lua"), True),
            (str(token), str(etc / "token"), True),
            *(((str(context.dir / keys[0]), keys[1], True),) if keys else ()),
            (swap_volume(context), "/var/lib/gateway", False),
        ),
        networks=((f"{context.project}_default", ()), *_outer(context)),
    )


def _outer(context: Context) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(names)) for name, names in context.spec.ollama.networks.items())


def _finish(context: Context) -> None:
    """Let a swap that an earlier run began come to its end, whichever way it went."""
    if swap_helper.unfinished(context.dir):
        context.say("swap", "an earlier run began to move the port: finishing that first", Kind.NOTE)
        try:
            _follow(context, "swap")
        except MigrateError as error:
            context.say("swap", error.message, Kind.WARN)


def _follow(context: Context, subject: str) -> SwapResult:
    return swap_helper.follow(
        context.dir,
        lambda event: context.say(subject, str(event.get("text", "")), Kind.WAIT, reason=str(event.get("step", ""))),
    )


def _words(result: SwapResult) -> str:
    return (
        f"port moved ({result.mode}): waited for {result.waited_streams} streams, {result.cut} cut, "
        f"{result.refused} refused, longest gap {result.gap_s * 1000:.0f} ms"
    )


