"""Move LLM serving from Ollama to vLLM: planned, proven, reversible."""

__version__ = "0.1.0"
