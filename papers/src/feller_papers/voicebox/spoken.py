"""Claims that need recorded speech, and their figures for people."""

import functools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from feller_papers.claims import Claim, untestable
from feller_papers.voicebox.setting import Setting

Test = Callable[[Setting], Iterator[Claim]]


def spoken(claim: str, paper: str) -> Callable[[Test], Test]:
    """Return what makes of a test one that says it cannot be made where there are no spoken digits."""

    def wrap(test: Test) -> Test:
        @functools.wraps(test)
        def checked(setting: Setting) -> Iterator[Claim]:
            if setting.folder is None:
                yield untestable(
                    claim, paper, "needs the spoken digits in speech/fsdd of the larger data: --data FOLDER"
                )
                return
            yield from test(setting)

        return checked

    return wrap


def columns(rows: Iterable[Sequence[float]]) -> str:
    """Return the mean over rows, which are seeds, of each column."""
    return ", ".join(f"{statistics.fmean(column):.3f}" for column in zip(*rows, strict=True))
