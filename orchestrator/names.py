"""Model names as Ollama compares them."""

from __future__ import annotations


def canonical(name: str) -> str:
    """Return the one spelling of a model name: lower case, no default host or namespace, always a tag.

    `Llama3.1` and `registry.ollama.ai/library/llama3.1:latest` are the same model to Ollama.
    """
    parts = name.strip().lower().rsplit("/", 2)     # [[scheme://]host/][namespace/]model
    if len(parts) == 3:
        host = parts[0].partition("://")[2] or parts[0]
        parts = parts[1:] if host == "registry.ollama.ai" else [host, *parts[1:]]
    if len(parts) == 2 and parts[0] == "library":
        parts = parts[1:]
    name, last = "/".join(parts), parts[-1]
    return name if ":" in last else f"{name}:latest"


def file_name(name: str) -> str:
    """Return a name as part of a file's: `llama3.1:8b` becomes `llama3.1-8b`."""
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in name)


def slug(name: str) -> str:
    """Return a short name for services and volumes: `llama3.1:8b` becomes `llama3-1-8b`."""
    short = name.rsplit("/", 1)[-1].lower().removesuffix(":latest")
    cleaned = "".join(c if c.isalnum() else "-" for c in short).strip("-")
    while "--" in cleaned:
        cleaned = cleaned.replace("--", "-")
    return cleaned[:39].rstrip("-") or "model"
