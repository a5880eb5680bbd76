"""How long a fit is said to take: with a clock that is given, and, slowly, with the real one."""

import pathlib
import re
import time
from dataclasses import replace

import pytest
import torch

import feller
from feller.data import read
from feller.data.batches import batches
from feller.draws import Draws
from feller.journeys.asked import Asked
from feller.journeys.begin import begin
from feller.journeys.foretell import foretold, rounded
from feller.journeys.prepare import prepare
from feller.journeys.tell import Tell, in_words
from feller.run import Run
from feller.train.engine import engine
from feller.train.optimiser import Training


class Listens(Tell):
    """Remembers what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


class Ticks:
    """A clock on which the first steps take a second each, and later ones a quarter."""

    def __init__(self, slow):
        self.now, self.calls, self.slow = 0.0, 0, slow

    def __call__(self):
        self.now += 1.0 if self.calls <= self.slow else 0.25
        self.calls += 1
        return self.now


@pytest.fixture(scope="module")
def ready():
    asked = Asked(data="example:moons", recipe="points", size="tiny", seed=0)
    return prepare(Run(pathlib.Path("nowhere")), begin(asked, None, lambda recipe: recipe), engine())


@pytest.fixture(scope="module")
def feed():
    return batches(read("example:moons").subset(torch.arange(64)), 32, Draws(0))


def of(ready, **training):
    return replace(ready, training=replace(ready.training, batch=32, **{"steps": None, "minutes": None, **training}))


def test_steps_are_told_in_time_without_the_slow_first_ones(ready, feed):
    asked = of(ready, steps=2880)
    assert foretold(asked, feed, engine(), Ticks(3)) == "about 12 minutes of training on this machine"


def test_minutes_are_told_in_steps(ready, feed):
    asked = of(ready, minutes=2.0)
    assert foretold(asked, feed, engine(), Ticks(3)) == "about 480 steps fit into that time on this machine"


def test_a_trial_changes_nothing_of_what_is_trained(ready, feed):
    before = {name: weight.clone() for name, weight in ready.learner.network.state_dict().items()}
    foretold(of(ready, steps=400), feed, engine(), Ticks(3))
    assert all(torch.equal(before[name], weight) for name, weight in ready.learner.network.state_dict().items())
    assert ready.learner.step == 0
    assert not ready.learner.optimiser.state_dict()["state"]


def test_what_is_done_counts_no_more(ready, feed):
    asked = of(ready, steps=2880)
    half = replace(asked, learner=replace(asked.learner, step=1440))
    assert foretold(half, feed, engine(), Ticks(3)) == "about 6 minutes of training on this machine"


def test_short_private_and_repeated_trainings_are_not_tried(ready, feed):
    never = Ticks(0)
    for asked in (
        of(ready, steps=40),
        replace(of(ready, steps=4000), tells_loss=False),
        replace(of(ready, steps=4000), tried=0),
        of(ready, steps=4000, replay=4),
    ):
        assert foretold(asked, feed, engine(), never) is None
    assert never.calls == 0


def test_a_trial_ends_after_its_share_of_the_time(ready, feed):
    clock = Ticks(1000)  # each step takes a second, of a minute
    assert (
        foretold(of(ready, minutes=1.0), feed, engine(), clock) == "about 60 steps fit into that time on this machine"
    )
    assert clock.calls == 5  # the start, and one more than the unusual


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (40.4, "40 seconds"),
        (95.0, "1.6 minutes"),
        (354.0, "5.9 minutes"),
        (9000.0, "2.5 hours"),
        (2e5, "2.3 days"),
    ],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


def test_numbers_in_two_digits():
    assert [rounded(number) for number in (0.3, 12.4, 1749.0, 123456.0)] == [1, 12, 1700, 120000]


def said_seconds(text):
    number, unit = re.search(r"about ([\d.]+) (second|minute)", text).groups()
    return float(number) * {"second": 1, "minute": 60}[unit]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "steps"), [("example:moons", 1000), ("example:digits", 200)])
def test_it_takes_as_long_as_was_said(tmp_path, monkeypatch, data, steps):
    monkeypatch.setattr("feller.journeys.fit.evaluate", lambda run, tell: {})
    listens, done = Listens(), []
    for _ in range(3):  # a machine that others use is now fast and now slow: the middle of three counts
        listens.said.clear()
        begun = time.monotonic()
        feller.fit(data, size="tiny", steps=steps, out=str(tmp_path / str(len(done))), tell=listens)
        whole = time.monotonic() - begun
        run = Run(tmp_path / str(len(done)))
        from feller.train.checkpoint import read_counters

        said = next(said_seconds(text) for text in listens.said if "on this machine" in text)
        took = read_counters(run)["seconds"]
        assert took < whole
        done.append(said / took)
    assert 1 / 1.5 < sorted(done)[1] < 1.5, done


def test_trainings_have_both_budgets_or_one():
    with pytest.raises(feller.UsageError, match="exclude each other"):
        feller.fit("example:moons", steps=1, minutes=1.0)
    assert Training(steps=3).minutes is None
