"""Ollama's dialect on top of vLLM, and the two small loops that live in the stack: guard and preload."""
