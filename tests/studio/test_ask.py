"""What visitors are told, and what they are not."""

from collections.abc import Callable

import pytest

from feller.errors import InputError
from feller.studio.ask import Wrong, ask
from feller.studio.heard import Heard
from feller.studio.limits import Limits
from feller.studio.outcome import Outcome
from feller.studio.tab import Tab


def tab(does: Callable[[], Outcome]) -> Tab:
    return Tab(about="", controls={}, does=lambda answers, tell: does(), shows=())


def said_of(text: str) -> str:
    def fails() -> Outcome:
        raise InputError(text)

    with pytest.raises(Wrong) as wrong:
        ask(tab(fails), {}, Limits(), Heard())
    return str(wrong.value)


def test_folders_are_left_out_of_what_is_said_and_the_rest_stays() -> None:
    assert said_of("no /home/me/runs/digits/model.json; see 3/4 of it") == "no model.json; see 3/4 of it"
    assert said_of("fit('/srv/my data') at http://x.example/a/b") == "fit('my data') at http://x.example/a/b"

    heard = Heard()
    heard.say("from /srv/a.csv")
    found = ask(tab(lambda: Outcome(said="read /srv/people.csv")), {}, Limits(), heard)
    assert found.said == "from a.csv\nread people.csv"


def test_a_fault_of_ours_tells_nothing_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> Outcome:
        raise KeyError("secret")

    with pytest.raises(Wrong, match="fault of feller") as wrong:
        ask(tab(fails), {}, Limits(), Heard())
    assert "secret" not in str(wrong.value)
    assert "secret" in capsys.readouterr().err
