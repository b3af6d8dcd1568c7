"""Open circuits before traffic is sent: an engine that was taken out, and answers again, comes back first.

Otherwise its first requests would be answered by Ollama, and count as failures that are none of its doing.
"""

from __future__ import annotations

from orchestrator.clients.openai import OpenAI
from orchestrator.errors import GateRefused, MigrateError
from orchestrator.steps import Context, door


def let_back(context: Context, routes: list[str]) -> None:
    """Ask each engine or replica that gets no requests for one token, and let it back when it gives one.

    Raises GateRefused when an engine has none that answers. Engines that embed are asked for a vector.
    """
    status = context.gateway.status()
    for model in routes:
        route = context.spec.routes[model]
        copies = context.spec.replicas(str(route.engine))
        known = status.replicas.get(str(route.engine)) or status.circuits
        out = [name for name in copies if name in known and known[name].out > 0]
        answered = {name: _asked(context, model, name, embeds=route.kind == "embedding") for name in out}
        for name, why in answered.items():
            if not why:
                context.gateway.let_back(name)
                context.say("cutover", f"{name} answers again: it gets requests as before")
        if out and len(out) == len(copies) and all(answered.values()):
            raise GateRefused(
                f"vLLM does not answer for {model}: {next(iter(answered.values()))}",
                hint=f"see: migrate logs vllm-{route.engine}",
            )


def _asked(context: Context, model: str, replica: str, *, embeds: bool) -> str:
    """Return why it does not answer; empty when it does."""
    url, headers = door(context, "vllm")
    try:
        with OpenAI(url, headers={**headers, "X-Migrate-Replica": replica}) as vllm:
            if embeds:
                vllm.embeddings({"model": model, "input": "ok"})
            else:
                vllm.chat({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "ok"}]})
    except MigrateError as error:
        return error.message
    return ""
