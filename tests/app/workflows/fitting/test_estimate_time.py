"""How long a fit is said to take: with a clock that is given, and, slowly, with the real one."""

import pathlib
import re
import time
from dataclasses import replace

import pytest
import torch

import feller
from feller.app.reporter import Tell, in_words
from feller.app.workflows.fitting.estimate_time import Reporting, foretold, paced, rounded
from feller.app.workflows.fitting.plan_fit import begin
from feller.app.workflows.fitting.training_setup import prepare
from feller.app.workflows.run_config import Asked
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.data.batches import batches
from feller.data.loading.read import read
from feller.models.families.answering_models import AutoencoderModel
from feller.training.engine import engine
from feller.training.optimizer import Training


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
    budget = replace(ready.training, batch=32, **{"steps": None, "minutes": None, **training})
    return replace(ready, training=budget, report=lambda here, limit, clock: None)


def test_steps_are_told_in_time_without_the_slow_first_ones(ready, feed):
    asked = of(ready, steps=2880)
    assert foretold(asked, feed, engine(), Ticks(3)) == "about 12 minutes of training on this machine"


def test_minutes_are_told_in_steps(ready, feed):
    asked = of(ready, minutes=2.0)
    assert foretold(asked, feed, engine(), Ticks(3)) == "about 480 steps fit into that time on this machine"


def test_a_report_longer_than_its_training_says_how_to_have_less_of_it(ready, feed):
    long = replace(of(ready, minutes=2.0), report=lambda here, limit, clock: 520.0)
    way = "Ctrl-C after the training leaves it for later: feller evaluate RUN)"
    said = foretold(long, feed, engine(), Ticks(3))
    assert said.endswith(f"the report takes about 8.7 minutes more ({way}")
    asked = {**long.record, "asked": {"size": "small"}}
    said = foretold(replace(long, record=asked), feed, engine(), Ticks(3))
    assert said.endswith(f" more (--size tiny makes it shorter, and {way}")


def test_the_report_counts_too_and_its_trial_has_a_share_of_the_training(ready, feed):
    limits = []

    def report(here, limit, clock):
        limits.append(limit)
        return 90.0

    asked = replace(of(ready, steps=240), report=report)
    said = "about 2.5 minutes on this machine, of which 1.5 minutes for the report"
    assert foretold(asked, feed, engine(), Ticks(3)) == said
    asked = replace(of(ready, minutes=2.0), report=report)
    said = "about 480 steps fit into that time on this machine; the report takes about 1.5 minutes more"
    assert foretold(asked, feed, engine(), Ticks(3)) == said
    assert limits == [0.05 * 60, 4.0]


def test_one_step_is_one(ready, feed):
    asked = of(ready, minutes=1 / 240)  # a quarter of a second, as long as a step
    assert foretold(asked, feed, engine(), Ticks(3)) == "about 1 step fits into that time on this machine"


@pytest.mark.parametrize("limit", [0.0, 2.0, 1e9])
def test_a_pace_is_that_without_the_slow_beginning(limit):
    now, done = [0.0], []

    def work(tell):
        now[0] += 5.0
        for piece in range(1, 11):
            now[0] += 1.0
            done.append(piece)
            tell(piece / 10)

    assert paced(work, limit, lambda: now[0]) == pytest.approx(10.0)
    assert len(done) == (10 if limit > 100 else 2)


def test_work_that_tells_once_is_timed_whole():
    times = iter([0.0, 3.0])
    assert paced(lambda tell: tell(1.0), 9.0, lambda: next(times)) == 3.0


def test_what_compiles_does_not_count_in_the_trial(ready, feed, monkeypatch):
    monkeypatch.setattr("feller.training.parallelize.check_compiler", lambda device: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    clock = Ticks(3)  # the first steps take three seconds, as long as the trial may; others a quarter
    said = "about 240 steps fit into that time on this machine"
    assert foretold(of(ready, minutes=1.0, compile=True), feed, engine(), clock) == said
    assert clock.calls == 1 + 3 + 13  # a quarter more than three seconds


def test_a_report_that_cannot_be_tried_is_not_foretold(ready):
    whole = replace(ready.description, family=AutoencoderModel())
    train = read("example:moons").subset(torch.arange(64))
    never = Ticks(0)
    assert Reporting(whole, train, train, Draws(0)).seconds(ready.learner.network, engine(), 1.0, never) is None
    assert never.calls == 0


def test_a_trial_of_a_report_leaves_the_network_as_it_is(ready):
    before = {name: weight.clone() for name, weight in ready.learner.network.state_dict().items()}
    assert ready.report(engine(), 0.0, time.process_time) > 0
    assert all(torch.equal(before[name], weight) for name, weight in ready.learner.network.state_dict().items())


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
    # In seconds of the processor: how much of it others leave to this process changes from one minute to the next.
    began = []

    def timed(ready, feed, here):
        said = foretold(ready, feed, here, time.process_time)
        began.append(time.process_time())
        return said

    monkeypatch.setattr("feller.app.workflows.fitting.run_training.foretold", timed)
    listens, done = Listens(), []
    for _ in range(3):  # and the middle of three counts
        listens.said.clear()
        feller.fit(data, size="tiny", steps=steps, out=str(tmp_path / str(len(done))), tell=listens)
        took = time.process_time() - began[-1]
        said = next(said_seconds(text) for text in listens.said if "for the report" in text)
        done.append(said / took)
    assert 1 / 1.5 < sorted(done)[1] < 1.5, done


def test_trainings_have_both_budgets_or_one():
    with pytest.raises(feller.UsageError, match="exclude each other"):
        feller.fit("example:moons", steps=1, minutes=1.0)
    assert Training(steps=3).minutes is None
