"""The command line of a vLLM service as vLLM gets it, and where its words stand in the file."""

from __future__ import annotations

import re

from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line


def command(service: Service) -> tuple[list[str], list[Finding]]:
    """Return vLLM's own arguments, and a finding where the entrypoint is repeated in them."""
    words = [word.text.strip() or word.text for word in service.argv if word.text != "\n"]
    wrapped = _in_shell(service)
    if wrapped:
        return wrapped
    for start in (
        ["vllm", "serve"],
        ["serve"],
        ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        ["python", "-m", "vllm.entrypoints.openai.api_server"],
        ["-m", "vllm.entrypoints.openai.api_server"],
        ["vllm.entrypoints.openai.api_server"],
    ):
        if words[: len(start)] == start:
            own = service.replaced or service.shell or service.partial or not service.own
            what = " ".join(start)
            return words[len(start) :], [] if own else [
                Finding(
                    "error",
                    service.name,
                    f"`{what}` is in the image's entrypoint already: vLLM stops with `unrecognized arguments`",
                    "let the command begin with the model",
                    line=service.argv[0].line,
                    code="repeated",
                )
            ]
    return words, []


def _in_shell(service: Service) -> tuple[list[str], list[Finding]] | None:
    """A command that is a shell, where the image's own entrypoint still stands before it."""
    if not service.shell or service.replaced or service.partial or not service.own:
        return None
    words = [word.text for word in service.argv]
    for start in (["vllm", "serve"], ["vllm.entrypoints.openai.api_server"]):
        if words[: len(start)] == start:
            words = words[len(start) :]
    return words, [Finding(
        "error", service.name, "the command is a shell, but the image's entrypoint `vllm serve` still stands before it",
        'entrypoint: ["/bin/bash", "-c"], or let the command begin with the model', line=service.at("command"),
        code="shell-command",
    )]  # fmt: skip


def backslashes(service: Service) -> list[Finding]:
    return [
        Finding(
            "error",
            service.name,
            f"{word.text!r} reaches vLLM with a blank in front: a backslash at a line's end is no continuation here",
            "take the backslashes out: YAML joins the lines of the block",
            line=word.line,
            code="backslash",
        )
        for word in service.argv
        if not service.shell and word.text[:1].isspace() and word.text.strip()
    ]


def model_of(line: Line) -> str:
    """Return the repository that is served; empty where none is named."""
    option = line.get("--model")
    if line.loose and not line.loose[0][1].startswith(("#", "-")) and line.loose[0][0] == 0:
        return line.loose[0][1]
    return option.value or "" if option else ""


def open_ended(service: Service) -> bool:
    """Whether a variable without a value may bring further words."""
    return any(re.fullmatch(r"\$(\w+|\{[^}]*\})", word.text) for word in service.argv)


def line_of(service: Service, text: str) -> int:
    return next((word.line for word in service.argv if text in word.text), service.at("command"))
