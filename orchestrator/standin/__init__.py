"""Stand-in servers for Ollama and vLLM, and the virtual GPUs that both share.

Programs: `python -m orchestrator.standin.ollama serve|ps|list`, `python -m orchestrator.standin.vllm serve MODEL
--flags`, `python -m orchestrator.standin.nvidia_smi`. They read the originals' variables, and these knobs:

STANDIN_TOKEN_MS, STANDIN_PROMPT_MS   pace of a lone request: milliseconds for a token, and before the first one
STANDIN_TEXT_TOKENS                   natural length of an answer, `24-96` or `300`
STANDIN_LEDGER, STANDIN_GPUS          folder of the virtual GPUs (none: CPU only), and `0:24GiB,1:24GiB` to begin with
Ollama: STANDIN_LOAD_S                seconds that loading a model takes
        STANDIN_MODELS, STANDIN_SEED  JSON file with the models of an empty directory; 0 leaves it empty
        STANDIN_BACKEND               base URL of a vLLM that generates the texts
        STANDIN_REPEAT_LIMIT          equal tokens in a row that end an answer (30; over a backend 0: never)
vLLM:   STANDIN_START_S               seconds that the start takes
        STANDIN_FAULTS                folder; a file in it named `die`, `hang` or `503` makes the engine do so
        STANDIN_FAIL                  a start-up failure by name (see vllm/startlog.py)
        STANDIN_WEIGHTS_GIB, STANDIN_KV_TOKEN_BYTES, STANDIN_CONTEXT   instead of what the name suggests
"""
