"""Images that do not exist, or change by themselves."""

from __future__ import annotations

from orchestrator.decide.composecheck.project import Project
from orchestrator.decide.finding import Finding


def check(project: Project) -> list[Finding]:
    found = []
    for service in project.services:
        line = service.at("image")
        if service.kind == "ollama" and not service.partial:
            if service.image == "ollama":
                found.append(
                    Finding(
                        "error",
                        service.name,
                        "there is no image `ollama` without a namespace",
                        "ollama/ollama:0.32.6",
                        line=line,
                        code="image-name",
                    )
                )
            if service.tag in ("", "latest", "rocm"):
                found.append(
                    Finding(
                        "warning",
                        service.name,
                        f"the tag `{service.tag or 'latest'}` is another release after each pull",
                        "pin one, such as 0.32.6",
                        line=line,
                        code="latest",
                    )
                )
        if service.image in ("vllm/vllm", "vllm/openai", "vllm-project/vllm", "vllm/vllm-server"):
            found.append(
                Finding(
                    "error",
                    service.name,
                    f"{service.image} is not where vLLM is published",
                    "vllm/vllm-openai:v0.30.0",
                    line=line,
                    code="image-name",
                )
            )
        if service.kind == "litellm" and service.tag in ("", "latest", "main-latest"):
            found.append(
                Finding(
                    "advice",
                    service.name,
                    f"the tag `{service.tag or 'latest'}` changes by itself",
                    "pin a release",
                    line=line,
                    code="latest",
                )
            )
    return found
