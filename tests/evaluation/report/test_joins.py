"""The page of a bridge: what its numbers are called, those of populations on the way too."""

from feller.evaluation.bridge import explain_between
from feller.evaluation.report.metrics import leading, measure, why_missing
from feller.evaluation.report.page import key_numbers

NUMBERS = {"objective": 9.0, "w2_24": 0.6, "w2_24_floor": 0.5, "sinkhorn_24": 0.1, "sinkhorn_24_floor": 0.1}
NUMBERS |= {"w2": 2.0, "w2_floor": 1.5, "sinkhorn": 2.0, "sinkhorn_floor": 1.2}


def test_distances_on_the_way_are_called_by_their_time() -> None:
    assert measure("w2_24", NUMBERS).label == "distance at time 24"
    assert measure("w2_24", NUMBERS).floor == "w2_24_floor"
    assert measure("sinkhorn_0.5", NUMBERS).label == "Sinkhorn divergence at time 0.5"
    assert measure("w2_24_floor", NUMBERS).label == "distance at time 24, real members"
    assert measure("w2", NUMBERS).label == "distance of the end"
    assert measure("w2_floor", NUMBERS).label == "distance of the end, real members"
    assert leading(NUMBERS) == ["objective", "w2_24", "sinkhorn_24", "w2", "sinkhorn"]


def test_each_is_explained() -> None:
    explained = explain_between(24.0)
    assert set(explained) == {name for name in NUMBERS if "_24" in name}
    assert all("24" in text for text in explained.values())


def test_why_there_is_no_distance() -> None:
    few = "there are too few members to compare with"
    assert why_missing("w2_24", {"w2_24": None}, {}) == few
    assert why_missing("w2_24_floor", {"w2_24": None}, {}) == few
    assert why_missing("w2_floor", {"w2": None}, {}) == few


def test_what_is_grey_is_said_for_real_members_and_for_plain_bridges() -> None:
    said = " ".join(key_numbers({**NUMBERS, "objective_straight": 8.0}, {}, {}).itertext())
    assert "Grey is what members of the populations reach among themselves" in said
    assert "what plain bridges cost" in said
    assert "as good as one can hope for" not in said
