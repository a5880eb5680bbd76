"""Errors: one line, fields, formatting by each interface."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feller.core.errors import FLAG_PATTERN, MAX_MESSAGE_LENGTH, InputError, UsageError, check_number, did_you_mean

anything = st.none() | st.text()


@given(fault=st.text(), argument=anything, expected=anything, found=anything, remedy=anything, file=anything)
def test_messages_have_one_line_of_bounded_length(
    fault: str, argument: str | None, expected: str | None, found: str | None, remedy: str | None, file: str | None
) -> None:
    error = InputError(fault, argument=argument, expected=expected, found=found, remedy=remedy, file=file)
    for line in (str(error), error.format(lambda one: f"--{one}", "argument {}")):
        assert len(line.splitlines()) < 2
        assert len(line) <= MAX_MESSAGE_LENGTH + 5
    fields = (error.message, error.argument, error.expected, error.found, error.remedy, error.file)
    assert fields == (fault, argument, expected, found, remedy, file)


def test_positional_facts_are_expected_found_and_remedy() -> None:
    error = UsageError("1 or more", 0, "Leave it out", argument="steps")
    assert (error.message, error.expected, error.found, error.remedy) == (None, "1 or more", "0", "Leave it out")
    assert str(error) == "steps: expected 1 or more; found 0. Leave it out"
    assert UsageError("a number", None).found == "None"
    assert InputError("damaged", file="a.csv", row=3, column="x", place="page 2").message == "damaged"


def test_arguments_are_renamed_by_each_interface() -> None:
    error = UsageError("no", remedy="Leave --given-by out, or see `feller fit --given-by`", argument="given")
    flags = {"given": "--given", "given_by": "--given-by"}
    assert error.format(flags.get) == "--given: no. Leave --given-by out, or see `feller fit --given-by`"
    names = {name: repr(name) for name in flags}
    assert error.format(names.get, "fit: argument {}").startswith("fit: argument 'given': ")
    assert "Leave 'given_by' out, or see `feller fit --given-by`" in error.format(names.get)
    assert error.format({"given": ""}.get).startswith("no. ")


def test_context_fills_missing_fields_and_prepends_places() -> None:
    inner = InputError("a number", repr("x"), column="age", place="line 3")
    outer = inner.with_context(file="a.csv", place="sheet 1", column="other", argument="data")
    assert (outer.argument, outer.file, outer.place, outer.column) == ("data", "a.csv", "sheet 1, line 3", "age")
    assert str(outer) == "a.csv, sheet 1, line 3, column 'age', data: expected a number; found 'x'"
    assert (inner.file, inner.place) == (None, "line 3")
    assert outer.with_path_replaced("a.csv", "the data frame").file == "the data frame"
    again = pickle.loads(pickle.dumps(outer))
    assert vars(again) == vars(outer)
    assert str(again) == str(outer)


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("hen", ["heun", "euler"], "heun"),
        ("EULER", ["heun", "euler"], "euler"),
        ("ti", ["Te", "Ti"], "Ti"),
        ("adjoin", ["continuous-adjoint", "adjoint-matching"], "adjoint-matching"),
        ("zzz", ["heun"], ""),
        ("3", ["1"], ""),
    ],
)
def test_unknown_names_list_the_valid_ones_and_suggest_the_closest(name: str, names: list[str], meant: str) -> None:
    error = UsageError.unknown_name("solver", name, names)
    assert (error.argument, error.found) == ("solver", repr(name))
    assert all(one in str(error.expected) for one in names)
    assert error.remedy == (f"Did you mean {meant!r}?" if meant else None)


@given(value=st.floats() | st.integers(-5, 5), low=st.integers(-3, 0), high=st.integers(1, 3))
def test_check_number_enforces_the_interval(value: float, low: int, high: int) -> None:
    def refuses(**limits: float) -> bool:
        try:
            check_number("value", value, **limits)
        except UsageError:
            return True
        return False

    assert refuses(ge=low, le=high) == (not low <= value <= high)
    assert refuses(gt=low, lt=high) == (not low < value < high)
    assert refuses(ge=low, lt=math.inf) == (not low <= value < math.inf)
    assert refuses(gt=low) == (not low < value)


def test_check_number_accepts_none_and_refuses_nan() -> None:
    check_number("value", None, ge=1)
    with pytest.raises(InputError) as refused:
        check_number("value", math.nan, ge=0, kind=InputError)
    assert (refused.value.argument, refused.value.found) == ("value", "nan")


def test_numbers_are_listed_as_ranges() -> None:
    assert did_you_mean("100", ["8", "9", "10", "11", "27"]).endswith(" 8 to 11, 27")


def test_names_with_a_dash_after_a_plus_are_no_flags() -> None:
    assert [match[0] for match in FLAG_PATTERN.finditer("--nfe, dpm-solver++-sde")] == ["--nfe"]
