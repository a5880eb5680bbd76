"""Claims that need recorded speech, and formatting of their results."""

import functools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from feller_papers.claims import Claim, untestable
from feller_papers.voicebox.setting import Setting

ClaimTest = Callable[[Setting], Iterator[Claim]]


def requires_speech(claim: str, paper: str) -> Callable[[ClaimTest], ClaimTest]:
    """Return a decorator: without the data, the test yields an untestable claim."""

    def wrap(test: ClaimTest) -> ClaimTest:
        @functools.wraps(test)
        def wrapper(setting: Setting) -> Iterator[Claim]:
            if setting.folder is None:
                yield untestable(
                    claim, paper, "needs the spoken digits in speech/fsdd of the larger data: --data FOLDER"
                )
                return
            yield from test(setting)

        return wrapper

    return wrap


def format_column_means(rows: Iterable[Sequence[float]]) -> str:
    """Return the formatted mean of each column over rows, which are seeds."""
    return ", ".join(f"{statistics.fmean(column):.3f}" for column in zip(*rows, strict=True))
