"""Kinds of flags and places: what is said of them, looked at, and offered to whoever types."""

import contextlib
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from feller.app.commands.marks import Checked, Filled, Limits, Offers
from feller.core.run_folder import open_run
from feller.core.user_code import check_code
from feller.data.examples.registry import EXAMPLE
from feller.data.path_checks import check_data

Positional = tyro.conf.Positional
Text = Annotated[str | None, Filled(), tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Said = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
"""Words of a person, of which there may be none."""
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Counted = Annotated[Whole, Limits(1.0)]
Positive = Annotated[Real, Limits(0.0, above=True)]
"""What may be left out; its help says what that means, so that it shows no default."""


def _count(words: list[str]) -> int:
    """Read a whole number, also as 1e6 or 1_000_000."""
    with contextlib.suppress(ValueError):
        return int(words[0])
    with contextlib.suppress(ValueError, OverflowError):
        if (number := int(float(words[0]))) == float(words[0]):
            return number
    raise ValueError(f"expected int, got '{words[0]}'")


_COUNT = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="INT",
    instance_from_str=_count,
    is_instance=lambda value: isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)
Count = Annotated[int | None, _COUNT, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
"""A whole number that may be large: 1e6 is one."""


def _if_given(check: Callable[[str], object]) -> Checked:
    """Look at what is given; what it means if nothing is, the command says."""
    return Checked(lambda value: None if value is None else check(value))


def _each(check: Callable[[str], object]) -> Checked:
    return Checked(lambda values: [check(value) for value in values])


def _shown(metavar: str) -> Any:
    """Show what a flag takes, and no default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


_RUNS, _EXAMPLES = Offers(runs=True), Offers(tables=("feller.data.examples.registry:SHIPPED",), before=EXAMPLE)
DataPlace = Positional[Annotated[str | None, _shown("[DATA]"), _if_given(check_data), _EXAMPLES]]
DataText = Annotated[Text, _if_given(check_data), _EXAMPLES]
DataOrWord = Positional[Annotated[str | None, _shown("[DATA]"), _EXAMPLES]]
"""Words of the command's own are none."""
FilePlace = Positional[Annotated[str | None, _shown("[FILE]"), _if_given(check_data), _EXAMPLES]]
RunPlace = Positional[Annotated[str | None, _shown("[RUN]"), Checked(open_run), _RUNS]]
RunText = Annotated[Text, _if_given(open_run), _RUNS]
BasePlace = Positional[Annotated[str | None, _shown("[RUN]"), _if_given(open_run), _RUNS]]
"""Left out, it need not be the newest run."""
RunOrWord = Positional[Annotated[str | None, _shown("[RUN]"), _RUNS]]
"""Words of the command's own are none."""
CodeText = Annotated[Text, _if_given(check_code)]
Words = Annotated[tuple[str, ...], _shown("KEY=VALUE ...")]
Wishes = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="rewards", aliases=("--reward",), metavar="TEXT ...", help_behavior_hint=""),
]
"""`--reward`, as help shows it first; where there are several, people also write `--rewards`."""
CodePlace = Positional[Annotated[str, tyro.conf.arg(metavar="FILE.py:FUNCTION")]]
Places = Positional[Annotated[tuple[str, ...], _shown("A B ..."), _each(check_data), _EXAMPLES]]
RunPlaces = Positional[Annotated[tuple[str, ...], _shown("[RUN ...]"), _each(open_run), _RUNS]]
Costs = Annotated[tuple[str, ...], _shown("TEXT ...")]
Numbers = Annotated[tuple[float, ...], _shown("NUMBER ...")]
Names = Annotated[tuple[str, ...], _shown("NAME ...")]
Pair = Annotated[tuple[str, ...], _shown("FILE TEXT")]


def short(*names: str) -> Any:
    """Give a flag other names, such as -n."""
    return tyro.conf.arg(aliases=names)


def named(name: str) -> Any:
    """Give a flag another name than its field, such as one that Python keeps for itself."""
    return tyro.conf.arg(name=name.removeprefix("--"))
