"""Requests of Ollama's native API, translated: /api/chat and /api/generate."""

from __future__ import annotations

from typing import Any

from orchestrator.adapter import ask, messages, options
from orchestrator.adapter.ask import Ask
from orchestrator.adapter.config import Route
from orchestrator.adapter.refusals import Refusal, incapable, unsupported
from orchestrator.adapter.wire import JSON


def chat(route: Route, request: JSON) -> Ask | str:
    """Translate /api/chat; a request without messages only loads or unloads: the reason is returned."""
    name = str(request["model"])
    alive = options.keep_alive(request.get("keep_alive"))
    if not request.get("messages"):
        return "unload" if alive == 0 else "load"
    if route.embeds:
        raise unsupported(name, "chat")
    merged = options.native(route.parameters, request.get("options"))
    conversation = messages.with_modelfile(route, messages.native(route, request["messages"]))
    question = ask.build(route, name, merged, messages=conversation, stream=_streams(request))
    messages.tools(route, request.get("tools"), question.body)
    return _finish(question, request)


def generate(route: Route, request: JSON) -> Ask | str:
    """Translate /api/generate; an empty prompt only loads or unloads."""
    name = str(request["model"])
    alive = options.keep_alive(request.get("keep_alive"))
    raw = bool(request.get("raw"))
    if raw and (request.get("template") or request.get("system") or request.get("context")):
        raise Refusal(400, "raw mode does not support template, system, or context", early=True)
    prompt = str(request.get("prompt") or "")
    if not prompt and not request.get("suffix"):
        return "unload" if alive == 0 else "load"
    if route.embeds:
        raise unsupported(name, "generate")
    if request.get("suffix"):
        raise incapable(route.name, "insert")
    merged = options.native(route.parameters, request.get("options"))
    if raw:
        return _finish(ask.build(route, name, merged, prompt=prompt, stream=_streams(request)), request)
    conversation = _prompted(route, request, prompt)
    question = ask.build(route, name, merged, messages=conversation, stream=_streams(request))
    question.body["return_token_ids"] = True  # they become `context`
    question.context = [token for token in request.get("context") or [] if isinstance(token, int) and token >= 0]
    return _finish(question, request)


def _prompted(route: Route, request: JSON, prompt: str) -> list[JSON]:
    """Return the conversation that Ollama makes of a prompt; `context` stands for the MESSAGEs."""
    system = request.get("system") or route.system
    fixed = [] if request.get("context") else messages.native(route, list(route.messages))
    user = messages.native(route, [{"role": "user", "content": prompt, "images": request.get("images")}])
    return ([{"role": "system", "content": str(system)}] if system else []) + fixed + user


def _streams(request: JSON) -> bool:
    return request.get("stream") is not False


def _finish(question: Ask, request: JSON) -> Ask:
    """Translate what chat and generate have in common."""
    body = question.body
    if "messages" in body:
        ask.think(question.route, question.name, request.get("think"), body)
    ask.constrain(request.get("format"), body)
    ask.logprobs(request.get("logprobs"), request.get("top_logprobs"), body)
    question.truncate = request.get("truncate") is not False
    return question


def rendered(name: str, prompt: str, *, chat: bool, created_at: str) -> JSON:
    """Return the answer to `_debug_render_only`: the prompt as the engine would see it, and nothing generated."""
    said: dict[str, Any] = {"message": {"role": "", "content": ""}} if chat else {"response": ""}
    shown = {"rendered_template": prompt}
    return {"model": name, "created_at": created_at, **said, "done": False, "_debug_info": shown}


def loaded(name: str, reason: str, *, chat: bool, created_at: str) -> JSON:
    """Return the answer to a request that only loads or unloads."""
    said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    return {"model": name, "created_at": created_at, **said, "done": True, "done_reason": reason}
