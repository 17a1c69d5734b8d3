"""One server for the tests of a module that do not kill it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.web.api.bench import Shop, shop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop")) as running:
        yield running
