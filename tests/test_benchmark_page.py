"""Results and page of `make bench`."""

import json

import pytest
from benchmarks import page, results
from benchmarks.timing import Case, Row, measure

WHERE = {"processor": "Some CPU", "cores": 2, "load": 0.5, "date": "2031-02-03", "versions": {"torch": "2.13.0"}}


def row(**changed: object) -> Row:
    """Return a row of a case with a peer and a floor."""
    facts = {
        "name": "a | task",
        "milliseconds": {"feller": 12.34, "peer": 24.68, "floor": 10.0},
        "ratios": {"peer": 0.5, "floor": 1.234},
        "max_floor_ratio": 1.3,
        "max_peer_ratio": 1.0,
        "max_milliseconds": None,
        "note": "",
        "repeats": 5,
    }
    return Row(**{**facts, **changed})


def test_recording_a_group_keeps_the_others(tmp_path):
    file = tmp_path / "results.json"
    results.record("one", [results.row_record(row())], WHERE, file)
    results.record("two", [results.row_record(row(name="old"))], WHERE, file)
    results.record("two", [results.row_record(row(name="new"))], {**WHERE, "date": "2032-01-01"}, file)
    found = json.loads(file.read_text())
    assert found["one"]["date"] == "2031-02-03"
    assert [line["name"] for line in found["two"]["rows"]] == ["new"]
    assert found["two"]["date"] == "2032-01-01"


def test_the_table_has_ratios_limits_verdict_machine_and_date():
    slow = row(name="slow", ratios={"floor": 1.5}, note="a note")
    table = page.table({**WHERE, "rows": [results.row_record(row()), results.row_record(slow)]})
    head, _, first, second, _, below = table.splitlines()
    assert head == "| task | feller, ms | / peer | / bare loop | allowed | also | passes |"
    assert first == r"| a \| task | 12.3 | 0.50 | 1.23 | 1.3 of the bare loop |  | yes |"
    assert second == "| slow | 12.3 |  | 1.50 | 1.3 of the bare loop | a note | no |"
    for word in ("2031-02-03", "Some CPU", "2 cores", "torch 2.13.0", "5 rounds"):
        assert word in below


def test_tables_are_filled_for_groups_with_results():
    one, two = (f"<!-- bench:{name} -->\n\nold {name}\n\n<!-- end:{name} -->" for name in ("one", "two"))
    text = f"# A\n\n{one}\n\nwords\n\n{two}\n"
    new = page.filled(text, {"one": {**WHERE, "rows": [results.row_record(row())]}})
    assert "old one" not in new
    assert "old two" in new
    assert "words" in new
    assert (
        page.filled(new, {"one": {**WHERE, "rows": [results.row_record(row())]}}) == new
    )  # writing twice changes nothing
    with pytest.raises(ValueError, match="three"):
        page.filled(text, {"three": {**WHERE, "rows": [results.row_record(row())]}})


def test_page_is_up_to_date_with_all_groups():
    text = page.PAGE.read_text()
    assert page.filled(text, results.read()) == text
    groups = __import__("benchmarks.__main__", fromlist=["GROUPS"]).GROUPS
    for group in (*groups, "importing"):
        assert f"<!-- bench:{group} -->" in text
        assert f"<!-- end:{group} -->" in text


def test_measured_rounds_and_ratios():
    found = measure(Case("nothing", {"feller": lambda: None, "floor": lambda: None}, repeat=3))
    assert found.repeats == 3
    assert set(found.ratios) == {"floor"}


def test_limits_of_ratios():
    assert row(ratios={"peer": 1.05, "floor": 1.3}).passed
    assert not row(ratios={"peer": 1.051}).passed
    assert not row(ratios={"floor": 1.301}).passed


def test_failing_rows_are_listed():
    rows = [
        results.row_record(row(name=name, ratios={"floor": ratio}))
        for name, ratio in (("quick", 1.2), ("slow", 1.4567))
    ]
    said = page.verdicts({"one": {**WHERE, "rows": rows}})
    assert said.splitlines()[0].startswith("1 of the 2 rows below do not pass")
    assert said.splitlines()[2:] == ["- slow: 1.457 / bare loop, 1.3 of the bare loop allowed"]
    assert page.verdicts({"one": {**WHERE, "rows": rows[:1]}}) == "All 1 rows below pass."


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(0.00898, "0.00898"), (12.34, "12.3"), (999.4, "999"), (999.6, "1,000"), (1193.2, "1,193")],
)
def test_times_have_three_digits_or_whole_milliseconds(milliseconds, said):
    assert page.span(milliseconds) == said
