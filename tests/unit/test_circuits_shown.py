"""An engine that the guard keeps requests from is shown."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.commands.show import _open


def shown(circuits: dict[str, Any], replicas: dict[str, Any] | None = None) -> list[str]:
    return _open({"circuits": circuits, "replicas": replicas or {}})


@pytest.mark.parametrize(
    ("circuits", "replicas", "names"),
    [
        ({}, {}, []),
        ({"a": {"out": 80.0, "by": "guard"}}, {}, ["a"]),
        ({"a": {"out": 0.4, "by": "gateway"}}, {}, []),     # gone in a moment
        ({"a": {"out": 80.0, "by": "guard"}}, {"a": {"a": {}, "a-2": {}}}, []),     # said with its replicas
        ({"b": {"out": 1.0, "by": "guard"}, "a": {"out": 1.0, "by": "guard"}}, {}, ["a", "b"]),
    ],
)
def test_engines_without_requests_are_named(
    circuits: dict[str, Any], replicas: dict[str, Any], names: list[str]
) -> None:
    lines = shown(circuits, replicas)
    assert [line.split()[2] for line in lines] == names
    assert all(f"migrate logs vllm-{name}" in line for name, line in zip(names, lines, strict=True))
