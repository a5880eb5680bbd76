"""Evaluation budgets, notes, and validity of single samples."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from feller.app.modalities.registration import registration_of
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawTexts, object_array
from feller.data.modality import Dataset
from feller.data.text.dataset import text_dataset
from feller.evaluation import evaluation_budget as module
from feller.evaluation import judge
from feller.evaluation.evaluation_budget import (
    MAX_SECONDS,
    MIN_SECONDS,
    QUICK_SECONDS,
    TRAINING_FRACTION,
    EvaluationBudget,
)
from feller.evaluation.judge import TRAINING, Judge
from feller.evaluation.report.verdict import judge_numbers
from feller.evaluation.sample_quality import SampleQuality, measure_quality
from feller.training.engine import get_engine
from tests.errors import numbers, refuses
from tests.evaluation.clock import Clock
from tests.evaluation.known import KNOWN

OWN = {name: EvaluationBudget.__dict__[name] for name in ("fraction_of", "num_affordable")}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take budgets as they are, which other tests keep small."""
    for name, method in OWN.items():
        monkeypatch.setattr(EvaluationBudget, name, method)


def measure(samples: Dataset, train: Dataset, held_out: Dataset, judge: Judge | None = None) -> SampleQuality:
    how = registration_of(train.modality).measure
    return measure_quality(samples, train, held_out, Rng(0), get_engine(), how, judge)


@pytest.fixture(scope="module")
def moons() -> Dataset:
    return read("example:moons").subset(torch.arange(1000))


def test_images(digits: Dataset, unseen: Dataset, digit_judge: Judge) -> None:
    found = measure(digits, digits, unseen, digit_judge)
    assert found.judge is digit_judge
    assert found.notes == ()
    assert found.numbers.keys() <= KNOWN
    assert all(type(value) in (float, str) for value in found.numbers.values())


def test_metrics_are_known(digits: Dataset, unseen: Dataset, digit_judge: Judge, moons: Dataset) -> None:
    names = set(measure(digits, digits, unseen, digit_judge).numbers)
    lines = read("example:shakespeare").subset(torch.arange(100))
    molecules, crystals = (read(f"example:{name}").subset(torch.arange(40)) for name in ("molecules", "perovskites"))
    short = text_dataset(RawTexts(object_array([f"name {i}" for i in range(60)]), documents=True))
    for data in (moons, read("example:volcano"), read("example:proteins"), lines, short, molecules, crystals):
        names |= measure(data, data, data).numbers.keys()
    assert names <= KNOWN


def test_judge_is_trained(digits: Dataset, unseen: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "TRAINING", dataclasses.replace(TRAINING, steps=5))
    plain = [Dataset(part.values, {}, part.modality) for part in (digits, digits, unseen)]
    found = measure(*plain)
    assert found.judge.target == "rotation"
    assert found.numbers["accuracy"] is None
    assert len(found.notes) == 1
    assert len(judge_numbers(found.numbers).cautions) == 1  # a judge of five steps is weak
    again = measure(*plain)
    assert again.numbers == found.numbers


def test_note_on_missing_floors(moons: Dataset) -> None:
    found = measure(moons, moons, moons.subset(torch.arange(7)))
    assert numbers(found.notes[0])[:2] == ["7", "50"]
    assert all(name in found.notes[0] for name in ("nearest_ratio", "sliced_w_floor", "energy_floor"))
    assert found.numbers["compared_with"] == "training data"


@pytest.mark.parametrize("name", ["molecules", "perovskites", "proteins", "shakespeare", "volcano"])
def test_notes_name_the_missing_floors(name: str) -> None:
    """With too few held out, what stands in a note is there or not there, and does not depend on the few."""
    data = read(f"example:{name}").subset(torch.arange(40))
    few, none = (measure(data, data, data.subset(torch.arange(n))) for n in (3, 0))
    assert few.numbers == none.numbers
    note = few.notes[0]
    assert ("residues" in note) == (name == "proteins")
    floors = {floor: value for floor, value in few.numbers.items() if floor.endswith("_floor")}
    assert {floor for floor in floors if floor in note} == {floor for floor, value in floors.items() if value is None}
    assert ("floors are those of the training data" in note) == any(value is not None for value in floors.values())


def test_note_on_many_samples(moons: Dataset) -> None:
    few = moons.subset(torch.arange(60))
    assert len(measure(moons, few, moons).notes) == len(measure(few, few, moons).notes) + 1


def test_note_on_class_frequencies(digits: Dataset, unseen: Dataset, digit_judge: Judge) -> None:
    def said(index: torch.Tensor) -> bool:
        notes = measure(digits.subset(index), digits, unseen, digit_judge).notes
        return any("class frequencies" in note for note in notes)

    label = digits.given["label"]
    assert said((label == 3).nonzero()[:, 0])
    assert said((label != 3).nonzero()[:, 0])
    for seed in range(5):
        assert not said(torch.randint(len(digits), (200,), generator=torch.Generator().manual_seed(seed)))


def test_mismatched_data(digits: Dataset, unseen: Dataset, moons: Dataset, digit_judge: Judge) -> None:
    other = dataclasses.replace(unseen, modality=dataclasses.replace(unseen.modality, levels=255))
    named = dataclasses.replace(unseen.modality, classes=tuple("zyxwvutsrq"))
    for samples, held_out, own in (
        (moons, unseen, digit_judge),
        (digits, other, digit_judge),
        (digits, dataclasses.replace(unseen, modality=named), digit_judge),
        (digits.subset(torch.arange(0)), unseen, digit_judge),
        (digits, unseen, dataclasses.replace(digit_judge, modality=named)),
    ):
        with refuses(InputError):
            measure(samples, digits, held_out, own)


@pytest.mark.parametrize(
    ("report", "training", "seconds"),
    [
        (None, 100.0, TRAINING_FRACTION * 100),
        (None, 1.0, MIN_SECONDS),
        (None, 1e6, MAX_SECONDS),
        ("quick", 1e6, QUICK_SECONDS),
        ("full", 1.0, None),
    ],
)
def test_budget_of_a_report(report: str | None, training: float, seconds: float | None) -> None:
    assert EvaluationBudget.for_report(report, training).seconds == seconds


def test_unknown_report() -> None:
    with refuses(UsageError):
        EvaluationBudget.for_report("fast", 1.0)


@pytest.mark.parametrize(
    ("pace", "n", "tried"),
    [(0.001, 1024, 86), (0.009, 1024, 86), (0.011, 512, 86), (0.05, 128, 86), (1.0, 64, 6), (30.0, 64, 1)],
)
def test_num_affordable(pace: float, n: int, tried: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for 1,024 examples, of which at most a sixteenth is tried, and few if these are slow."""
    clock = Clock(pace)
    monkeypatch.setattr(module, "time", clock)
    assert EvaluationBudget(20.0).num_affordable(1024, 0.5, clock.work, get_engine()) == n
    assert clock.done == tried


@pytest.mark.parametrize(("pace", "n"), [(0.05, 128), (0.3, 64), (1.0, 0)])
def test_optional_work_is_left_out(pace: float, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(pace)
    monkeypatch.setattr(module, "time", clock)
    assert EvaluationBudget(20.0).num_affordable(1024, 0.5, clock.work, get_engine(), is_optional=True) == n


@pytest.mark.parametrize(("pace", "n"), [(0.05, 128), (0.3, 64), (0.4, 16), (30.0, 16)])
def test_fewer_than_a_sixteenth_if_these_are_too_slow(pace: float, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth may take 20 s; if it takes longer, the number is halved until it takes 10 s."""
    clock = Clock(pace)
    monkeypatch.setattr(module, "time", clock)
    assert EvaluationBudget(20.0).num_affordable(1024, 0.5, clock.work, get_engine(), min_examples=16) == n


def test_num_affordable_without_trial() -> None:
    clock = Clock(1.0)
    assert EvaluationBudget(1.0).num_affordable(16, 1.0, clock.work, get_engine()) == 16
    assert EvaluationBudget().num_affordable(1000, 1.0, clock.work, get_engine()) == 1000
    assert clock.done == 0


def test_limit() -> None:
    assert EvaluationBudget().limit(100, 60.0) == 100
    assert EvaluationBudget(30.0).limit(100, 60.0) == 50
    assert EvaluationBudget(1.0).limit(100, 60.0) == 16
    assert EvaluationBudget(90.0).limit(100, 60.0) == 100
    assert EvaluationBudget(n=7).limit(100, 60.0) == 7
    assert EvaluationBudget(n=700).limit(100, 60.0) == 100


def valid(samples: Dataset) -> Any:
    return registration_of(samples.modality).valid(samples)


def spread(data: Dataset, factor: float) -> Dataset:
    """Move all atoms away from the centre of their molecule."""
    values = {**data.values, "place": factor * data.values["place"]}
    return Dataset(values, data.given, data.modality)


def test_validity_of_molecules() -> None:
    """Most of QM9 follow from their distances; none do where all distances are 1.4 times as long, or 0.5 times."""
    data = read("example:molecules").subset(torch.arange(60))
    marks = valid(data)
    assert (marks.shape, marks.dtype) == ((60,), bool)
    assert marks.mean() > 0.85
    assert not valid(spread(data, 1.4)).any()
    assert not valid(spread(data, 0.5)).any()


def test_validity_of_crystals() -> None:
    data = read("example:perovskites").subset(torch.arange(60))
    assert valid(data).mean() > 0.95
    lattice = data.values["lattice"].clone()
    lattice[:, :3] /= 2
    assert not valid(Dataset({**data.values, "lattice": lattice}, data.given, data.modality)).any()


def test_validity_of_chains_and_points() -> None:
    data = read("example:backbones")
    data = data.subset(torch.arange(min(len(data), 60)))
    assert valid(data).mean() > 0.9
    assert not valid(Dataset(0.8 * data.values, data.given, data.modality)).any()
    assert valid(read("example:moons").subset(torch.arange(9))) is None


def test_nan_becomes_none(moons: Dataset) -> None:
    def measured(*of: object) -> dict[str, float | str | None]:
        return {"far": math.nan, "far_floor": 1.0}

    found = measure_quality(moons, moons, moons, Rng(0), get_engine().single_process(), measured)
    assert (found.numbers["far"], found.numbers["far_floor"]) == (None, 1.0)
    assert any("far" in note for note in found.notes)
