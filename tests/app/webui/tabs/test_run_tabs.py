"""A guarantee in words."""

import math

import pytest

from feller.app.webui.tabs.run_tabs import guess_odds_text


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 4.0, 20.0])
def test_no_test_between_two_outcomes_is_right_more_often_than_is_said(epsilon: float) -> None:
    """Randomised response with e^epsilon : 1, that fails openly with probability delta, reaches the bound."""
    delta = 1e-2
    told = (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon)) + delta
    said = float(guess_odds_text(epsilon, delta).split("at most ")[1].split(" of")[0])
    assert told * 100 <= said + 1e-9
    assert said <= told * 100 + 0.11


def test_words_do_not_praise_what_protects_nothing() -> None:
    assert "close to guessing" in guess_odds_text(0.1, 1e-6)
    assert "uncertain" in guess_odds_text(2.0, 1e-6)
    assert "no protection" in guess_odds_text(10.0, 1e-6)
