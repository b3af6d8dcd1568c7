"""Stand-in servers for Ollama and vLLM, and the virtual GPUs that both share."""
