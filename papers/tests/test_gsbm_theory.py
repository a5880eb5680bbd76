"""Claims about pinned problems that are solved exactly."""

import pytest

from feller_papers.claims import HOLDS
from feller_papers.gsbm.setting import Setting
from feller_papers.gsbm.theory import path_integral, splines


@pytest.mark.slow
def test_claims_about_pinned_problems_hold() -> None:
    """By one seed; the negative control too."""
    found = [*splines(Setting(seeds=(0,))), *path_integral(Setting(seeds=(0,)))]
    assert len(found) == 5
    assert {claim.verdict for claim in found} == {HOLDS}
