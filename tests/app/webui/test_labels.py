"""Messages of journeys in the words of the page."""

import pytest

from feller.app.webui.controls import Choice, Number, Words
from feller.app.webui.limits import Limits
from feller.app.webui.run_request import Heard, Wrong, ask, with_labels
from feller.app.webui.tab import Answers, Outcome, Tab
from feller.app.webui.tabs.sample import seeded
from feller.core.errors import UsageError

CONTROLS = {
    "said": Words(label="Text", flags=("--text",)),
    "n": Number(label="How many", value=1, least=1, most=9, flags=("-n",)),
    "words": Words(label="The question", flags=("--ask", "--edit")),
    "other": Choice(label="Something else", options=("a",), value="a", flags=("--edit",)),
    "seed": seeded(),
}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("expected words behind --text, got none", 'expected words behind "Text", got none'),
        ("-n must be at least 1; --ask and --edit", '"How many" must be at least 1; "The question" and "The question"'),
        ("leave --steps out, or --text.", 'leave --steps out, or "Text".'),
        ("--text-like, --text.width, un--text and a-n stay", "--text-like, --text.width, un--text and a-n stay"),
        ("as in `feller sample --text`, or --text", 'as in `feller sample --text`, or "Text"'),
        (
            "go on with: feller sample RUN --text X -n 3; or --text",
            'go on with: feller sample RUN --text X -n 3; or "Text"',
        ),
        ("(--seed 0)", '("Seed" 0)'),
        ("nearly right; fit with --objective.shuffled 1 to fill them exactly", "nearly right"),
        ("so this is a guess; train it on examples of them: fit --start-from", "so this is a guess"),
    ],
)
def test_flags_are_called_as_the_page_calls_them(said: str, told: str) -> None:
    assert with_labels(said, CONTROLS) == told


def test_the_first_of_two_controls_is_meant() -> None:
    assert with_labels("--edit", dict(reversed(CONTROLS.items()))) == '"Something else"'


def test_refusals_and_notes_are_in_the_words_of_the_page() -> None:
    def does(answers: Answers, tell: Heard) -> Outcome:
        if not answers["said"]:
            raise UsageError("--text is empty; see /srv/run/a.txt")
        tell.say("--seed 3 was used")
        return Outcome(said="leave --seed out")

    controls = {"said": CONTROLS["said"], "seed": CONTROLS["seed"]}
    tab = Tab(about="", controls=controls, does=does, shows=())  # type: ignore[arg-type]
    with pytest.raises(Wrong, match=r'^"Text" is empty; see a\.txt$'):
        ask(tab, {"said": "", "seed": 0}, Limits(), Heard())
    assert ask(tab, {"said": "x", "seed": 0}, Limits(), Heard()).said == '"Seed" 3 was used\nleave "Seed" out'
