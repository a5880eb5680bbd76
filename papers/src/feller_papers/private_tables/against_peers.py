"""Comparison with other programs, on tables that were not used during development: TV2, TV3, AUC and CPU seconds."""

import functools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.evaluation.tables.table_quality import samples_quality
from feller_papers.claims import FAILS, HOLDS, Claim, seeds_of, untestable
from feller_papers.private_tables.figures import caution
from feller_papers.private_tables.measured import Measured, measured, table_of
from feller_papers.private_tables.methods import AIM, ROWS
from feller_papers.private_tables.packaged_tables import PACKAGED
from feller_papers.private_tables.peers import NOT_INSTALLED, PEERS, VARIABLE, Peer, peer_rows
from feller_papers.private_tables.setting import NONE, STRONG, Budget, Setting

BUDGETS = (STRONG, Budget(3.0), NONE)
SEEDS = (0, 1, 2)
OURS = {"feller, recipe table": ROWS, "feller, recipe table-marginals": AIM}
"""Our methods by name."""
REAL, INDEPENDENT = "real rows (TV: bootstrap)", "independent columns"
"""References without privacy: TV2 and TV3 of rows drawn with replacement, and of shuffled columns."""


@dataclass(frozen=True)
class Scores:
    """Scores of a method, one entry per seed, or the reason why there are none."""

    method: str
    tv2: tuple[float, ...] = ()
    tv3: tuple[float, ...] = ()
    auc: tuple[float, ...] = ()
    """Area under ROC on held-out real rows, of boosted trees that were trained on synthetic rows."""
    seconds: tuple[float, ...] = ()
    """CPU seconds; empty for references."""
    reason: str = ""

    @property
    def key(self) -> tuple[float, float, float]:
        """TV2, TV3 and negative AUC, means over seeds: smaller is better."""
        return statistics.fmean(self.tv2), statistics.fmean(self.tv3), -statistics.fmean(self.auc)

    def line(self, width: int) -> str:
        """Return the method's line of the printed table."""
        if self.reason:
            return f"{self.method:<{width}}  {self.reason}"
        tv2, tv3, auc = self.key
        seconds = f"{statistics.fmean(self.seconds):11.0f}" if self.seconds else f"{'':>11}"
        return f"{self.method:<{width}}  {tv2:.4f}  {tv3:.4f}  {-auc:.4f}  {seconds}".rstrip()


def packaged(setting: Setting) -> Iterator[Claim]:
    """Compare for each table and budget; with `--quick`, for one table."""
    whole = setting.whole
    for name in list(PACKAGED)[: None if whole else 1]:
        for budget in BUDGETS if whole else setting.budgets:
            yield _compared(setting, name, budget, SEEDS if whole else setting.seeds)


def _compared(setting: Setting, name: str, budget: Budget, seeds: Sequence[int]) -> Claim:
    claim = f"{name}, {budget.name}: a recipe is at least as good as the best peer in TV2, TV3 and AUC"
    paper = "not in the paper"
    if PACKAGED[name].path() is None:
        return untestable(claim, paper, "needs pip install 'feller-papers[peers]'")
    peers = [peer for peer in PEERS if peer.takes(budget)]
    if not any(peer.interpreter() for peer in peers):
        return untestable(claim, paper, f"no peer is installed; {VARIABLE} names the folder of their environments")
    theirs = [scores_of_peer(setting, name, peer, budget, seeds) for peer in peers]
    first = measured(setting, name, ROWS, budget, seeds[0])
    ours = [
        _scores(method, [measured(setting, name, way, budget, seed) for seed in seeds]) for method, way in OURS.items()
    ]
    return Claim(
        claim,
        paper,
        printed([*ours, *theirs, *_references(first)]) + caution(setting),
        seeds_of(seeds),
        judged(ours, theirs),
    )


def judged(ours: Sequence[Scores], theirs: Sequence[Scores]) -> str:
    """Return the verdict: one recipe is at least as good as the best peer of each score, whichever peer that is."""
    keys = [scores.key for scores in theirs if not scores.reason]
    best = [min(values) for values in zip(*keys, strict=True)]
    return HOLDS if any(all(a <= b for a, b in zip(own.key, best, strict=True)) for own in ours) else FAILS


def printed(rows: Sequence[Scores]) -> str:
    """Return the table of scores as text, one line per method."""
    width = max(len(row.method) for row in rows)
    header = f"{'method':<{width}}  TV2     TV3     AUC     CPU seconds"
    return "\n".join(["", header, *(row.line(width) for row in rows)])


def scores_of_peer(setting: Setting, name: str, peer: Peer, budget: Budget, seeds: Sequence[int]) -> Scores:
    """Return the scores of a peer; the reason of the first seed without rows, where there is one."""
    found = [_peer_measured(setting, name, peer, budget, seed) for seed in seeds]
    reasons = [one for one in found if isinstance(one, str)]
    if reasons:
        return Scores(peer.name, reason=reasons[0])
    return _scores(peer.name, [one for one in found if isinstance(one, Measured)])


@functools.cache
def _peer_measured(setting: Setting, name: str, peer: Peer, budget: Budget, seed: int) -> Measured | str:
    table, real = PACKAGED[name], table_of(setting, name)
    frames = table.frames(setting.rows)
    if frames is None:
        return NOT_INSTALLED
    sampled = peer_rows(peer, table, frames[0], budget, seed)
    if sampled.rows is None:
        return sampled.reason
    try:
        rows = table.dataset(sampled.rows)
    except InputError as error:
        return f"rows that the public schema does not allow: {error}"
    numbers = samples_quality(rows, real.learned, real.held_out, Rng(0).fold_in("quality"))
    return Measured(numbers, None, None, budget.epsilon, sampled.seconds)


def _scores(method: str, found: Sequence[Measured]) -> Scores:
    tv2, tv3, auc = (tuple(one.number(name) for one in found) for name in ("tv2", "tv3", "auc_boosted"))
    return Scores(method, tv2, tv3, auc, tuple(one.seconds for one in found))


def _references(one: Measured) -> tuple[Scores, Scores]:
    def scores(method: str, suffix: str, auc: str) -> Scores:
        tv2, tv3 = one.number(f"tv2{suffix}"), one.number(f"tv3{suffix}")
        return Scores(method, (tv2,), (tv3,), (one.number(auc),))

    return scores(REAL, "_floor", "auc_boosted_real"), scores(INDEPENDENT, "_independent", "auc_boosted_independent")
