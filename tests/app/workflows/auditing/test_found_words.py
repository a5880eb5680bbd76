"""The sentence that is quoted says the worst that was found, first."""

import pytest

from feller.app.workflows.auditing.audit_page import said
from feller.privacy.accounting.dp_events import Subsampled
from feller.privacy.accounting.ledger import Ledger

LEDGER = Ledger((Subsampled("training", 1.0, 0.1, 10),), 1e-5, 100)


def test_rows_that_are_read_off_are_no_guessing() -> None:
    words = said(None, {"rebuilt_error": 5e-24, "spread": 0.0435, "loss_auc": 0.4975})
    assert "rows can be read from it" in words
    assert "little better" not in words
    assert "no better" in said(None, {"rebuilt_error": 0.05, "spread": 0.0435, "loss_auc": 0.4975})


def test_copies_beyond_those_of_unseen_data_are_told() -> None:
    assert "it copies: 30.0 % of the samples" in said(None, {"copies": 0.3, "copies_held_out": 0.1, "loss_auc": 0.51})
    assert "it copies" not in said(None, {"copies": 0.1, "copies_held_out": 0.1, "loss_auc": 0.51})
    assert "it copies: 12.0 % of the texts" in said(None, {"passages": 0.12, "passages_held_out": 0.0})


def test_without_privacy_nothing_is_proved() -> None:
    assert "proves nothing" in said(None, {"loss_auc": 0.5})
    assert "members are told from others" in said(None, {"loss_auc": 0.7})


def test_a_guarantee_that_allows_nearly_all_is_no_pass() -> None:
    assert "bounds next to nothing" in said(LEDGER, {"epsilon": 30.0, "guess_0.1": 0.999})
    assert "holds against all" in said(LEDGER, {"epsilon": 1.0, "guess_0.1": 0.155})
    assert said(LEDGER, {"epsilon": 30.0, "guess_0.1": 0.999, "loss_epsilon": 31.0}).startswith("ALARM")


def test_what_an_owner_needs_comes_first() -> None:
    told = said(LEDGER, {"epsilon": 4.0, "guess_0.1": 0.4, "loss_auc": 0.519})
    assert told.startswith("The best attack tells members from others with an area under ROC of 0.519, where 0.5 is")


def test_the_best_attack_is_one_that_was_tried() -> None:
    told = said(None, {"shadow_auc": 0.493, "shadow_epsilon": 0.0})
    assert "area under ROC of 0.493, where 0.5 is guessing: no better, which proves nothing" in told
    assert "0.510, where 0.5 is guessing: little better" in said(None, {"loss_auc": 0.51, "shadow_auc": 0.493})
    assert "0.500, where 0.5 is guessing: no better" in said(None, {"loss_auc": 0.5001})
    assert "0.000, where" in said(None, {"loss_auc": 0.0})


@pytest.mark.parametrize("numbers", [{}, {"loss_auc": None}, {"planted_auc": 0.7}, {"loss_auc": float("nan")}])
def test_where_no_attack_was_tried_no_area_is_told(numbers: dict[str, float | None]) -> None:
    told = said(None, numbers)
    assert "no attack could be tried that tells members from others, which proves nothing" in told
    assert "ROC" not in told
    assert said(LEDGER, {"epsilon": 1.0, **numbers}).startswith("No attack could be tried that tells members from oth")
