"""What every test of this folder needs."""

from __future__ import annotations

import pytest
from tests.frameworks.langchain.scene import World


@pytest.fixture
def world() -> World:
    return World()
