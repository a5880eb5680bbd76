"""What a journey says, and the seconds that pass while it says nothing."""

import time

import pytest

from feller.app.webui import run_request
from feller.app.webui.button_presses import MOST, Stops
from feller.app.webui.run_request import Heard, Stopped, passing


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
    monkeypatch.setattr(run_request, "EACH", 0.02)
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


def test_what_is_stopped_says_no_more() -> None:
    """A page stops what it has asked for: while it is worked on, and while it waits; nobody else's."""
    stops, one = Stops(), Heard()
    with stops.working("me", one):
        stops.stop("you")
        one.progress(0.5)
        stops.stop("me")
        for says in (lambda: one.progress(0.6), lambda: one.task("more"), lambda: one.say("more")):
            with pytest.raises(Stopped):
                says()
    stops.stop("me")
    with pytest.raises(Stopped):  # it waited
        _asks(stops)
    _asks(stops)  # the next


def test_a_stop_that_came_too_late_stops_nothing_new() -> None:
    """Stop pressed as the work ended is of that work; and what nobody comes back for is forgotten."""
    stops = Stops()
    stops.stop("me")
    stops.begin("me")
    _asks(stops)
    for number in range(2 * MOST):
        stops.stop(f"visitor {number}")
    _asks(stops, "visitor 0")
    with pytest.raises(Stopped):
        _asks(stops, f"visitor {2 * MOST - 1}")


def _asks(stops: Stops, session: str = "me") -> None:
    run_request = Heard()
    with stops.working(session, run_request):
        run_request.check()
