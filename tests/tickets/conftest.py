"""Ticket systems for the tests: fakes by their documents, and a real Roundup."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tickets.fakes import FAKES, Fake


@pytest.fixture(params=FAKES)
def fake(request: pytest.FixtureRequest) -> Iterator[Fake]:
    """Each of the fakes, empty."""
    server = FAKES[request.param]()
    yield server
    server.close()
