"""Which model a vLLM service names: one that exists, that vLLM loads, in the format and length that are asked for."""

from __future__ import annotations

import re

from orchestrator.decide.catalog import load
from orchestrator.decide.composecheck.commandline import command, line_of, model_of
from orchestrator.decide.composecheck.fits import number
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

_NO_QUANTS = ("meta-llama", "mistralai", "deepseek-ai", "microsoft")
# --quantization -> what the scheme of a repository must have in its name.
_FORMATS = {"awq": "awq", "awq_marlin": "awq", "gptq": "gptq", "gptq_marlin": "gptq", "gguf": "gguf"}
_PLAIN = ("bf16", "bfloat16", "fp16", "float16")


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.of("vllm"):
        line = read(command(service)[0])
        found += _model(service, line) + _format(service, line) + _length(service, line)
    return found


def _format(service: Service, line: Line) -> list[Finding]:
    """--quantization of a format that the repository is not in: vLLM finds no configuration of it and stops."""
    option, known = line.get("--quantization"), load().by_repo(model_of(line))
    wanted = _FORMATS.get(option.value or "") if option else None
    if not option or not wanted or not known or wanted in known[1] or wanted in model_of(line).lower():
        return []
    near = [repo for repo, scheme in known[0].quantized if wanted in scheme]
    fix = "leave --quantization out: vLLM reads it from the repository" + (f", or take {near[0]}" if near else "")
    return [Finding("error", service.name, f"--quantization {option.value}, but {model_of(line)} is {known[1]}", fix,
                    line=line_of(service, "--quantization"), code="quantization")]  # fmt: skip


def _length(service: Service, line: Line) -> list[Finding]:
    option, known = line.get("--max-model-len"), load().by_repo(model_of(line))
    asked = number(option.value) if option else None
    longest = known[0].numbers.max_context if known and known[0].measured else None
    stretched = line.get("--rope-scaling") or line.get("--hf-overrides") or any(
        one.key.startswith("--hf-overrides") for one in line.options)  # fmt: skip
    if not asked or not longest or asked <= longest or stretched or "VLLM_ALLOW_LONG_MAX_MODEL_LEN" in service.env:
        return []
    return [Finding("error", service.name, f"--max-model-len {asked} is more than {model_of(line)} has ({longest}): "
                    "vLLM does not start", f"at most {longest}", line=line_of(service, "--max-model-len"),
                    code="too-long")]  # fmt: skip


def _model(service: Service, line: Line) -> list[Finding]:
    repo, at = model_of(line), service.at("command")
    if not repo:
        joined = any(word.startswith("--model ") for _, word in line.loose)
        if service.partial or joined or any("$" in word.text for word in service.argv) or line.get("--config"):
            return []
        last = next((word for at, word in line.loose if at and re.fullmatch(r"[\w.-]+/[\w.-]+", word)), "")
        if last:
            return [Finding("warning", service.name, f"{last} stands after the flags, and may be lost",
                            "give the model first", line=line_of(service, last), code="model-last")]  # fmt: skip
        return [
            Finding(
                "error",
                service.name,
                "names no model: vLLM then serves Qwen/Qwen3-0.6B without a word",
                "begin the command with the repository",
                line=at,
                code="no-model",
            )
        ]
    at = line_of(service, repo)
    if repo.endswith(".gguf") or "/blobs/sha256-" in repo:
        return [
            Finding(
                "error",
                service.name,
                "vLLM does not load GGUF files: Ollama's models cannot be reused",
                "name a Hugging Face repository with safetensors",
                line=at,
                code="gguf",
            )
        ]
    if "$" in repo or repo.startswith(("/", ".")):
        return []
    if re.fullmatch(r"[\w.-]+:[\w.-]+", repo) or "/" not in repo:
        near = load().find(repo)
        return [
            Finding(
                "error",
                service.name,
                f"`{repo}` is no Hugging Face repository",
                near.repo if near else "write OWNER/NAME",
                line=at,
                code="not-a-repo",
            )
        ]
    owner, _, name = repo.partition("/")
    if (
        owner in _NO_QUANTS
        and re.search(r"-(AWQ|GPTQ|GGUF|INT4|INT8)\b", name, re.IGNORECASE)
        and not load().by_repo(repo)
    ):
        return [
            Finding(
                "error",
                service.name,
                f"there is no {repo}: {owner} publishes no such quantisation",
                _quantised(repo),
                line=at,
                code="invented-repo",
            )
        ]
    return []


def _quantised(repo: str) -> str:
    plain = re.sub(r"-(AWQ|GPTQ|GGUF|INT4|INT8).*$", "", repo, flags=re.IGNORECASE)
    for name in (plain, plain.replace("/Llama-", "/Meta-Llama-"), plain.replace("/Meta-Llama-", "/Llama-")):
        known = load().by_repo(name)
        if known and known[0].quantized:
            awq = [one for one, scheme in known[0].quantized if "awq" in f"{one} {scheme}".lower()]
            return f"take {(awq or [known[0].quantized[0][0]])[0]}"
    return f"take {plain}, or a quantised one that somebody publishes"
