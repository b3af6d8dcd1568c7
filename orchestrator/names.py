"""Model names as Ollama compares them."""

from __future__ import annotations


def canonical(name: str) -> str:
    """Return the one spelling of a model name: lower case, no default host or namespace, always a tag.

    `Llama3.1` and `registry.ollama.ai/library/llama3.1:latest` are the same model to Ollama.
    """
    name = name.strip().lower()
    name = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    last = name.rsplit("/", 1)[-1]
    return name if ":" in last else f"{name}:latest"


def slug(name: str) -> str:
    """Return a short name for services and volumes: `llama3.1:8b` becomes `llama3-1-8b`."""
    short = name.rsplit("/", 1)[-1].lower().removesuffix(":latest")
    cleaned = "".join(c if c.isalnum() else "-" for c in short).strip("-")
    while "--" in cleaned:
        cleaned = cleaned.replace("--", "-")
    return cleaned[:39].rstrip("-") or "model"
