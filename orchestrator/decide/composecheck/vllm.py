"""What is wrong with the start of a vLLM service: its image, its words, its model."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from orchestrator.decide import vllm_args
from orchestrator.decide.composecheck.commandline import backslashes, command, line_of, model_of
from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.composecheck.service import Service, release
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

CURRENT = (0, 20)  # from here on the pinned release's flags are a fair measure
KNOWN = ((0, 30), (0, 32))  # releases between which no flag is known to differ
# Architecture, by a word in the repository's name -> first release that serves it.
_FIRST = (
    (r"llama-?3\.[13]", "0.5.3.post1", "its rope scaling is unknown before"),
    (r"llama-?3\.2.*vision", "0.6.2", "its architecture is unknown before"),
    (r"llama-?3\.2", "0.5.3.post1", "its rope scaling is unknown before"),
    (r"llama-?4", "0.8.3", "its architecture is unknown before"),
    (r"qwen3", "0.8.4", "its architecture is unknown before"),
    (r"qwen2\.5-?vl", "0.7.2", "its architecture is unknown before"),
    (r"gemma-?3", "0.8.0", "its architecture is unknown before"),
    (r"gpt-oss", "0.10.1", "its architecture is unknown before"),
)


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.of("vllm"):
        words, repeated = command(service)
        repeated += backslashes(service)
        line = read(words)
        found += repeated + _positional(service, line) + _image(service, line) + _words(service, words, line)
    return found


def _image(service: Service, line: Line) -> list[Finding]:
    found, at, tag = [], service.at("image"), service.tag
    if "/" not in service.image and service.image and not service.partial:
        found.append(
            Finding(
                "error",
                service.name,
                f"there is no image `{service.image}` without a namespace",
                "vllm/vllm-openai:v0.30.0",
                line=at,
                code="image-name",
            )
        )
    if tag in ("", "latest", "nightly", "main") and not service.partial:
        found.append(
            Finding(
                "warning",
                service.name,
                f"the tag `{tag or 'latest'}` is another release after each pull: "
                "flags, defaults and the CUDA version change with it",
                "pin one, such as v0.30.0",
                line=at,
                code="latest",
            )
        )
    mine, repo = service.release, model_of(line).lower()
    for pattern, first, why in _FIRST:
        if mine and re.search(pattern, repo):
            if mine < (release(first) or ()):
                found.append(
                    Finding(
                        "error",
                        service.name,
                        f"vLLM {tag} cannot load {model_of(line)}: {why}",
                        f"{first} is the first good one; take a current one, such as v0.30.0 (there the model comes "
                        "first on the command line, without --model)",
                        line=at,
                        code="image-too-old",
                    )
                )
            break
    return found


def _positional(service: Service, line: Line) -> list[Finding]:
    """Before 0.9 the image ran a module that takes the model by --model alone."""
    old = service.own and service.release is not None and service.release[:2] < (0, 9)
    if not old or service.replaced or service.shell or line.get("--model") or not line.loose:
        return []
    at, word = line.loose[0]
    if at or word.startswith(("-", "#")) or "$" in word:
        return []
    return [Finding("error", service.name, f"the image {service.tag} takes no model by position: it stops with "
                    "`unrecognized arguments`", f"write --model {word} there, or take a current release",
                    line=line_of(service, word), code="positional-old")]  # fmt: skip


def _words(service: Service, words: list[str], line: Line) -> list[Finding]:
    found = [
        replace(one, where=service.name, what=f"`{one.where}` {one.what}", line=line_of(service, "#"))
        for one in vllm_args.hashes(words)
    ]
    current = service.release is None or service.release[:2] >= CURRENT
    said = [one for option in line.options for one in vllm_args.check_option(option)]
    if not current:  # an older release has other flags; what is wrong in any release is said all the same
        said = [
            replace(one, severity="advice", what=f"{one.what.partition(',')[0]}; {service.tag} still has it")
            if one.code == "removed"
            else one
            for one in said
            if one.code in ("removed", "secret", "utilization")
        ]
    elif not exact(service):
        said = [
            replace(one, severity="warning", what=f"{one.what} (this is {service.tag}: look into its own --help)")
            if one.code in ("unknown", "removed", "value")
            else one
            for one in said
        ]
    for at, word in line.loose:
        if (at or word.startswith("-")) and not word.startswith("#") and "${" not in word:
            said += _loose(at, word, words, line)
    said += vllm_args.twice([option.key for option in line.options])
    hidden = ("secret",) if current else ("secret", "unknown-variable")
    said += [one for one in vllm_args.check_env(_environment(service)) if one.code not in hidden]
    for one in said:
        told = service.plain.get(one.where)
        place = told.line if told else line_of(service, one.where.strip("'\\n "))
        what = f"{one.where}: {one.what}" if one.code == "unknown-variable" else f"{one.where} {one.what}"
        found.append(replace(one, where=service.name, what=what, line=place))
    if "--model" in {option.key for option in line.options} and current and not service.partial:
        found.append(
            Finding(
                "advice",
                service.name,
                "--model goes away: `vllm serve` takes the model by position",
                "begin the command with the repository",
                line=line_of(service, "--model"),
                code="model-flag",
            )
        )
    return found


def exact(service: Service) -> bool:
    """Whether the table of flags is right for a service's release; `latest` counts as the newest that is known."""
    return service.release is None or KNOWN[0] <= service.release[:2] <= KNOWN[1]


def _loose(at: int, word: str, words: list[str], line: Line) -> list[Finding]:
    if not word.startswith("-") and line.get("--model") is None and at and "#" not in words[:at]:
        return (
            [
                Finding(
                    "error",
                    word,
                    f"stands alone after {words[at - 1]}",
                    "give the model first, and one value to each flag",
                    code="positional",
                )
            ]
            if model_of(line)
            else []
        )
    if " " in word and word.startswith("-"):
        return [
            Finding(
                "error",
                word,
                "is one argument: flag and value are two items of a list",
                f"write {json.dumps(word.split())}",
                code="joined",
            )
        ]
    return []


def _environment(service: Service) -> dict[str, str]:
    return {name: word.text for name, word in service.plain.items()}
