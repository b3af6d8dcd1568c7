"""What the articles say, as data: thresholds, figures, and where they contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True, slots=True)
class Source:
    """An article; `hardware` and `date` in its own words, or that it does not say."""

    id: str
    title: str
    date: str
    hardware: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """One rule of an article: from `at` on (up to `until`, inclusive) of `metric` it says stay, consider or migrate."""

    id: str
    source: Source
    metric: str
    at: float
    says: str
    text: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    source: Source
    what: str
    ollama: str
    vllm: str
    where: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A question that the articles answer differently (`answers`: source id to answer), and what was checked.

    topic: when it matters: load, few, stated, hardware, first_token, automation, ollama, vllm.
    """

    question: str
    topic: str
    answers: dict[str, str]
    checked: str


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting that an article recommends for an engine (ollama or vllm), and what was checked."""

    source: Source
    engine: str
    text: str
    checked: str


@dataclass(frozen=True, slots=True)
class Cited:
    sources: dict[str, Source]
    thresholds: tuple[Threshold, ...]
    figures: tuple[Figure, ...]
    contradictions: tuple[Contradiction, ...]
    settings: tuple[Advice, ...]

    def threshold(self, name: str) -> Threshold:
        return next(one for one in self.thresholds if one.id == name)

    def of(self, metric: str) -> tuple[Threshold, ...]:
        return tuple(one for one in self.thresholds if one.metric == metric)


@cache
def cited() -> Cited:
    """Return the packaged citations."""
    text = resources.files("orchestrator").joinpath("data/cited.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    sources = {key: Source(key, **item) for key, item in data["sources"].items()}
    return Cited(
        sources,
        tuple(Threshold(**{**item, "source": sources[item["source"]]}) for item in data["thresholds"]),
        tuple(Figure(**{**item, "source": sources[item["source"]]}) for item in data["figures"]),
        tuple(Contradiction(**item) for item in data["contradictions"]),
        tuple(Advice(**{**item, "source": sources[item["source"]]}) for item in data["settings"]),
    )
