"""The page about clients says what the tests run."""

from __future__ import annotations

import clients_page
import pytest
from clients_drivers import DRIVERS


def test_the_page_is_of_today() -> None:
    assert clients_page.PAGE.read_text(encoding="utf-8") == clients_page.page()


@pytest.mark.parametrize("client", DRIVERS)
def test_every_case_is_found(client: str) -> None:
    assert len(clients_page.calls(clients_page.HERE / DRIVERS[client])) >= 10
