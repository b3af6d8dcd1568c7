"""LiteLLM's configuration for development on Ollama and production on vLLM, under one model name. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

KEY = "MIGRATE_API_KEY"
DEV_FILE, PROD_FILE = "litellm_config_dev.yaml", "litellm_config_prod.yaml"
_HEAD = "# LiteLLM, {what}. Start it with: litellm --config {file}\n"
_DEV = "# Applications use the same model names as in production; only this file is exchanged.\n"
_PROD = (
    f"# {KEY} may be any text: neither the gateway nor an engine of the stack checks it, but LiteLLM's\n"
    f"# OpenAI client wants one. Put it into the environment, not here: export {KEY}=any-text\n"
)


def litellm(spec: Spec, *, dev: str = "http://localhost:11434", prod: str | None = None) -> dict[str, str]:
    """Return file name -> YAML for the routes of `spec` that migrate; the model names of both files are equal.

    `dev` is the base of an Ollama, without /v1; `prod` where the gateway answers, with or without /v1, by default
    the gateway of the spec. An engine that is read from a folder is asked for by its Ollama name.
    """
    base = (prod or gateway_url(spec)).rstrip("/").removesuffix("/v1")
    local = dev.rstrip("/").removesuffix("/v1")
    names = [
        (name, model, spec.engines[route.engine])
        for model, route in spec.migrating().items() if route.engine
        for name in (model, *route.names)
    ]  # fmt: skip
    return {
        DEV_FILE: _HEAD.format(what="development on Ollama", file=DEV_FILE) + _DEV
        + _yaml([_development(name, model, engine, local) for name, model, engine in names]),
        PROD_FILE: _HEAD.format(what="production on vLLM", file=PROD_FILE) + _PROD
        + _yaml([_production(name, model, engine, f"{base}/v1") for name, model, engine in names]),
    }  # fmt: skip


def _development(name: str, model: str, engine: Engine, base: str) -> dict[str, Any]:
    # ollama_chat uses /api/chat, so that the template and tools are Ollama's; embeddings only exist under ollama.
    provider = "ollama" if engine.task == "embed" else "ollama_chat"
    return _entry(name, {"model": f"{provider}/{model}", "api_base": base}, engine)


def _production(name: str, model: str, engine: Engine, base: str) -> dict[str, Any]:
    asked = model if engine.repo.startswith(("/", ".")) else engine.repo
    return _entry(name, {"model": f"openai/{asked}", "api_base": base, "api_key": f"os.environ/{KEY}"}, engine)


def _entry(name: str, params: dict[str, Any], engine: Engine) -> dict[str, Any]:
    mode = "embedding" if engine.task == "embed" else "chat"
    return {"model_name": name, "litellm_params": params, "model_info": {"mode": mode}}


def gateway_url(spec: Spec) -> str:
    """Return where callers reach the gateway, without /v1."""
    host = spec.gateway.listen
    host = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{host}:{spec.gateway.port}"


def _yaml(entries: list[dict[str, Any]]) -> str:
    return yaml.safe_dump({"model_list": entries}, sort_keys=False, allow_unicode=True, width=120)
