"""No step is taken before it is in the ledger."""

import json
import pathlib
from typing import Any

import pytest

from feller.app.workflows.private.budget import STEPS_PAID_AHEAD, PrivacyBudget, ledger_of
from feller.app.workflows.private.privacy_config import Guarantee
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from tests.errors import refuses

COUNTED = GaussianMechanism("counts", 12.0)


def planned(steps: int) -> Guarantee:
    return Guarantee(epsilon=4.0, delta=1e-5, n=270, sigma=1.3, clip=1.0, batch=75, steps=steps)


def purse(folder: pathlib.Path, steps: int, *, writes: bool = True) -> PrivacyBudget:
    run = Run(folder)
    ledger = ledger_of(run) or Ledger((COUNTED,), 1e-5, 270)
    return PrivacyBudget(run, ledger, planned(steps), writes=writes)


def written(folder: pathlib.Path) -> int:
    ledger = ledger_of(Run(folder))
    assert ledger is not None
    assert ledger.events[0] == COUNTED
    return sum(one.steps for one in ledger.events if isinstance(one, PoissonSubsampledGaussian))


def drawn(step: int, rows: slice) -> dict[str, Any]:
    return {"step": step}


def test_the_file_counts_a_step_before_its_batch_is_drawn(tmp_path: pathlib.Path) -> None:
    taken = []

    def draw(step: int, rows: slice) -> dict[str, Any]:
        assert written(tmp_path) > step
        taken.append(step)
        return {}

    batch = purse(tmp_path, 2 * STEPS_PAID_AHEAD + 3).batches(draw)
    for step in range(2 * STEPS_PAID_AHEAD + 3):
        batch(step, slice(None))
    assert taken == list(range(2 * STEPS_PAID_AHEAD + 3))
    assert written(tmp_path) == 2 * STEPS_PAID_AHEAD + 3


def test_no_step_beyond_those_planned(tmp_path: pathlib.Path) -> None:
    one = purse(tmp_path, 3)
    batch = one.batches(drawn)
    assert not one.should_stop
    for step in range(3):
        batch(step, slice(None))
    assert one.should_stop
    with pytest.raises(InputError, match="epsilon 4 is spent"):
        batch(3, slice(None))
    assert written(tmp_path) == 3


def test_asking_twice_for_a_step_pays_twice(tmp_path: pathlib.Path) -> None:
    one = purse(tmp_path, 10)
    batch = one.batches(drawn)
    batch(0, slice(None))
    batch(0, slice(None))
    one.refund_unused_steps()
    assert written(tmp_path) == 2


def test_a_stop_gives_back_what_was_not_taken_and_a_kill_does_not(tmp_path: pathlib.Path) -> None:
    for folder, closes, kept in ((tmp_path / "stopped", True, 4), (tmp_path / "killed", False, STEPS_PAID_AHEAD)):
        folder.mkdir()
        one = purse(folder, 100)
        batch = one.batches(drawn)
        for step in range(4):
            batch(step, slice(None))
        if closes:
            one.refund_unused_steps()
            one.refund_unused_steps()  # gives nothing back twice
        assert written(folder) == kept
        again = purse(folder, 100)
        assert again.steps == kept
        batch, more = again.batches(drawn), 0
        while not again.should_stop:
            batch(4 + more, slice(None))
            more += 1
        assert kept + more == 100
        assert written(folder) == 100


def test_a_stop_before_the_first_step_leaves_the_other_expenses(tmp_path: pathlib.Path) -> None:
    one = purse(tmp_path, 5)
    one.write_ledger_first(0)
    one.refund_unused_steps()
    assert written(tmp_path) == 0


def test_weights_that_took_more_steps_than_the_ledger_counts_are_refused(tmp_path: pathlib.Path) -> None:
    one = purse(tmp_path, 50)
    batch = one.batches(drawn)
    batch(0, slice(None))
    one.refund_unused_steps()
    purse(tmp_path, 50).write_ledger_first(1)
    with pytest.raises(InputError, match="counts 1 steps, but the weights were trained for 2"):
        purse(tmp_path, 50).write_ledger_first(2)


def test_only_the_first_process_writes(tmp_path: pathlib.Path) -> None:
    one = purse(tmp_path, 5, writes=False)
    one.write_ledger_first(0)
    one.batches(drawn)(0, slice(None))
    assert ledger_of(Run(tmp_path)) is None
    assert one.steps == 5


def test_other_noise_is_another_expense(tmp_path: pathlib.Path) -> None:
    """The ledger of a run whose plan changed adds, and does not rewrite what was spent before."""
    ledger = Ledger((COUNTED, PoissonSubsampledGaussian("training", 1.0, 0.5, 7)), 1e-5, 270)
    one = PrivacyBudget(Run(tmp_path), ledger, planned(10), writes=True)
    one.batches(drawn)(0, slice(None))
    assert one.ledger.events[1] == PoissonSubsampledGaussian("training", 1.0, 0.5, 7)
    assert one.ledger.events[2].steps == 3
    one.refund_unused_steps()
    assert one.ledger.events[1] == PoissonSubsampledGaussian("training", 1.0, 0.5, 7)
    assert one.steps == 8


@pytest.mark.parametrize(
    ("key", "value"), [("times", 2**70), ("sigma", 1e-300), ("sigma", 1e308), ("integer_moves", 10**9)]
)
def test_events_out_of_bounds_are_refused_with_file_and_key(tmp_path: pathlib.Path, key: str, value: float) -> None:
    purse(tmp_path, 3).write()
    path = Run(tmp_path).ledger
    content = json.loads(path.read_text())
    content["events"][0][key] = value
    path.write_text(json.dumps(content))
    with refuses(InputError, file=str(path)) as caught:
        ledger_of(Run(tmp_path))
    assert f"events[0]: {key}" in str(caught.value)
