"""What a journey says, and the seconds that pass while it says nothing."""

import time

import pytest

from feller.studio import heard
from feller.studio.heard import Heard, passing


def test_a_share_is_told_where_it_is_known() -> None:
    told: list[tuple[float | None, str]] = []
    one = Heard(lambda share, text: told.append((share, text)))
    one.task("drawing")
    one.progress(0.0)
    one.progress(0.5, "8 of 16")
    one.wait()
    one.progress(1.5)
    assert told == [(None, "drawing ..."), (0.5, "drawing 8 of 16"), (1.0, "drawing")]


def test_seconds_are_told_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "EACH", 0.02)
    told: list[tuple[float | None, str]] = []
    one = Heard(lambda share, text: told.append((share, text)))
    with passing(one):
        one.task("making sounds")
        deadline = time.monotonic() + 30
        while len(told) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert set(told[1:]) == {(None, "making sounds, 0 s")}
    number = len(told)
    time.sleep(0.1)
    assert len(told) == number  # it ends with the block
