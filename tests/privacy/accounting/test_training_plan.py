"""Plans of batch size and steps for a budget."""

import math

import pytest

from feller.core.errors import UsageError
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.accounting.training_plan import TrainingPlan, choose_plan, training_plans
from tests.errors import refuses


@pytest.mark.slow
def test_plans_spend_the_budget_on_the_same_number_of_examples() -> None:
    n, examples = 2000, 1000
    plans = training_plans(3.0, 1e-5, n, examples)
    assert [plan.steps for plan in plans] == [25, 50]
    for plan in plans:
        assert examples - plan.steps < plan.batch * plan.steps <= examples
        event = PoissonSubsampledGaussian("training", plan.sigma, plan.batch / n, plan.steps)
        assert 3.0 - 2e-3 <= compute_epsilon((event,), 1e-5) <= 3.0


def test_noise_of_the_mean_of_all_gradients() -> None:
    plan = TrainingPlan(100, 16, 2.0)
    assert plan.step_noise == 0.02
    assert plan.total_noise == math.sqrt(16 * 2.0**2) / (100 * 16)


def test_most_steps_among_plans_of_about_the_least_noise() -> None:
    least, close, far = TrainingPlan(100, 25, 1.0), TrainingPlan(50, 50, 0.75), TrainingPlan(25, 100, 0.7)
    assert close.total_noise < 1.1 * least.total_noise < far.total_noise
    assert choose_plan((least, close, far)) == close
    assert choose_plan((least,)) == least


def test_more_examples_than_rows_in_the_fewest_steps() -> None:
    (first, *_) = training_plans(3.0, 1e-5, 20, 1200)
    assert (first.batch, first.steps) == (20, 60)


@pytest.mark.parametrize(("n", "examples", "name"), [(3, 10_000, "n"), (100, 10, "examples")])
def test_too_few_rows_or_examples(n: int, examples: int, name: str) -> None:
    with refuses(UsageError, argument=name):
        training_plans(3.0, 1e-5, n, examples)
