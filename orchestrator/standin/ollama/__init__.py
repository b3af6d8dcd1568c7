"""A stand-in for the Ollama server: its API, its queue, its memory, its log; not its models."""

VERSION = "0.32.15"
