"""Which tests may run beside each other: those that share a stage follow one another, the rest run next to them."""

from __future__ import annotations

import pytest

STAGED = ("test_kill.py", "test_faults.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give xdist two queues of tests on the Docker Engine; before xdist itself looks for them."""
    for item in items:
        if item.get_closest_marker("docker"):
            group = "staged" if item.path.name in STAGED else "others"
            item.add_marker(pytest.mark.xdist_group(group))
