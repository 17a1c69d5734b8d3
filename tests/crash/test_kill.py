"""kill -9 at any moment: nothing lost, nothing twice, nothing left standing."""

import os

import pytest

pytestmark = pytest.mark.crash
