"""Servers in this process, that end without an error."""

import pytest

from tests import small
from tests.serving import running


@pytest.fixture
def aligning(tmp_path):
    with running(tmp_path) as server:
        yield server
        assert server.errors == []


@pytest.fixture
def decoding(tmp_path):
    with running(tmp_path, small.bundle()) as server:
        yield server
        assert server.errors == []
