"""Models of points and of pictures for the tests of what goes out and comes in."""

import pytest

from tests.models.export.untrained import untrained


@pytest.fixture(scope="module")
def points():
    return untrained("example:moons", "points")


@pytest.fixture(scope="module")
def pictures():
    return untrained("example:digits", "images")
