"""Properties of every objective."""

from dataclasses import is_dataclass
from typing import Any

import pytest

from feller.core.rng import Rng
from feller.evaluation.conformance import check_objective
from feller.training.objective import Objective, ObjectiveConfig
from tests.properties.examples import ObjectiveCase, cases

BUILT = cases(ObjectiveConfig, when=lambda case: isinstance(case, ObjectiveCase) and not is_dataclass(case.kind))
"""Objectives that their configurations build from a teacher, a reference model or data."""
OBJECTIVES = [*cases(Objective), *BUILT]
N = 6


def batch(case: ObjectiveCase, n: int = N) -> dict[str, Any]:
    return case.batch(n, Rng(0).stream("batch"))


@pytest.mark.parametrize("case", OBJECTIVES)
def test_conforms(case: ObjectiveCase) -> None:
    check_objective(case.kind, case.network(), batch(case), is_random=case.random, rows_independent=case.rows)
