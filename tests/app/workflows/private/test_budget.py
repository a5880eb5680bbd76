"""Steps are in the ledger before they are taken."""

import json

import pytest

from feller.app.workflows.private.budget import STEPS_PAID_AHEAD, PrivacyBudget, ledger_of
from feller.app.workflows.private.privacy_config import Guarantee
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.privacy.accounting.dp_events import GaussianMechanism, PoissonSubsampledGaussian
from feller.privacy.accounting.ledger import Ledger
from tests.errors import refuses

COUNTED = GaussianMechanism("counts", 12.0)


def planned(steps):
    return Guarantee(epsilon=4.0, delta=1e-5, n=270, sigma=1.3, clip=1.0, batch=75, steps=steps)


def budget(folder, steps, *, writes=True):
    run = Run(folder)
    ledger = ledger_of(run) or Ledger((COUNTED,), 1e-5, 270)
    return PrivacyBudget(run, ledger, planned(steps), writes=writes)


def written(folder):
    ledger = ledger_of(Run(folder))
    assert ledger.events[0] == COUNTED
    return sum(one.steps for one in ledger.events if isinstance(one, PoissonSubsampledGaussian))


def drawn(step, rows):
    return {"step": step}


def take(one, *steps):
    batch = one.batches(drawn)
    for step in steps:
        batch(step, slice(None))


def test_step_is_in_the_ledger_before_its_batch_is_drawn(tmp_path):
    taken, n = [], 2 * STEPS_PAID_AHEAD + 3

    def draw(step, rows):
        assert written(tmp_path) > step
        taken.append(step)
        return {}

    batch = budget(tmp_path, n).batches(draw)
    for step in range(n):
        batch(step, slice(None))
    assert taken == list(range(n))
    assert written(tmp_path) == n


def test_no_step_beyond_the_plan(tmp_path):
    one = budget(tmp_path, 3)
    assert not one.should_stop
    take(one, 0, 1, 2)
    assert one.should_stop
    with refuses(InputError):
        take(one, 3)
    assert written(tmp_path) == 3


def test_repeated_step_is_paid_twice(tmp_path):
    one = budget(tmp_path, 10)
    take(one, 0, 0)
    one.refund_unused_steps()
    assert written(tmp_path) == 2


def test_interrupt_refunds_unused_steps_and_a_kill_does_not(tmp_path):
    for folder, closes, kept in ((tmp_path / "stopped", True, 4), (tmp_path / "killed", False, STEPS_PAID_AHEAD)):
        folder.mkdir()
        one = budget(folder, 100)
        take(one, *range(4))
        if closes:
            one.refund_unused_steps()
            one.refund_unused_steps()  # gives nothing back twice
        assert written(folder) == kept
        again = budget(folder, 100)
        assert again.steps == kept
        batch, more = again.batches(drawn), 0
        while not again.should_stop:
            batch(4 + more, slice(None))
            more += 1
        assert kept + more == 100
        assert written(folder) == 100


def test_refund_before_the_first_step_keeps_other_expenses(tmp_path):
    one = budget(tmp_path, 5)
    one.write_ledger_first(0)
    one.refund_unused_steps()
    assert written(tmp_path) == 0


def test_weights_of_more_steps_than_the_ledger_counts(tmp_path):
    one = budget(tmp_path, 50)
    take(one, 0)
    one.refund_unused_steps()
    budget(tmp_path, 50).write_ledger_first(1)
    with refuses(InputError) as caught:
        budget(tmp_path, 50).write_ledger_first(2)
    assert "1 steps" in str(caught.value)


def test_only_the_first_process_writes(tmp_path):
    one = budget(tmp_path, 5, writes=False)
    one.write_ledger_first(0)
    take(one, 0)
    assert ledger_of(Run(tmp_path)) is None
    assert one.steps == 5


def test_changed_plan_adds_an_expense(tmp_path):
    """Earlier expenses are not rewritten."""
    earlier = PoissonSubsampledGaussian("training", 1.0, 0.5, 7)
    one = PrivacyBudget(Run(tmp_path), Ledger((COUNTED, earlier), 1e-5, 270), planned(10), writes=True)
    take(one, 0)
    assert (one.ledger.events[1], one.ledger.events[2].steps) == (earlier, 3)
    one.refund_unused_steps()
    assert (one.ledger.events[1], one.steps) == (earlier, 8)


@pytest.mark.parametrize(
    ("key", "value"), [("times", 2**70), ("sigma", 1e-300), ("sigma", 1e308), ("integer_moves", 10**9)]
)
def test_events_out_of_bounds_are_refused_with_file_and_key(tmp_path, key, value):
    budget(tmp_path, 3).write()
    path = Run(tmp_path).ledger
    content = json.loads(path.read_text())
    content["events"][0][key] = value
    path.write_text(json.dumps(content))
    with refuses(InputError, file=str(path)) as caught:
        ledger_of(Run(tmp_path))
    assert f"events[0]: {key}" in str(caught.value)
