"""Images that do not exist, or change by themselves."""

from __future__ import annotations

from orchestrator.decide.composecheck.ollama import health_words
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
        if service.kind == "litellm" and not service.partial and "curl" in health_words(service):
            found.append(Finding(
                "error", service.name, "the healthcheck calls curl, which the image does not have",
                'test: ["CMD", "python3", "-c", "import urllib.request as u; '
                "u.urlopen('http://localhost:4000/health/liveliness')\"]",
                line=service.at("healthcheck", "test"), code="health-curl",
            ))  # fmt: skip
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
