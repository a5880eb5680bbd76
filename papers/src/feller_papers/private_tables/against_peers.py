"""Comparison with other programs, on tables that were not used during development: TV2, TV3, AUC and CPU seconds."""

import functools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.evaluation.tables.table_quality import samples_quality
from feller_papers.claims import FAILS, HOLDS, Claim, seeds_of, untestable
from feller_papers.private_tables.figures import small_run_note
from feller_papers.private_tables.measured import Evaluation, evaluate_method, get_split
from feller_papers.private_tables.methods import AIM, ROW_MODEL
from feller_papers.private_tables.packaged_tables import PACKAGED
from feller_papers.private_tables.peers import NOT_INSTALLED, PEERS, PEERS_VARIABLE, Peer, sample_peer
from feller_papers.private_tables.setting import NONE, STRONG, Budget, Setting

BUDGETS = (STRONG, Budget(3.0), NONE)
SEEDS = (0, 1, 2)
OURS = {"feller, recipe table": ROW_MODEL, "feller, recipe table-marginals": AIM}
"""Methods of feller by name."""
REAL_ROWS, INDEPENDENT_COLUMNS = "real rows (TV: bootstrap)", "independent columns"
"""References without privacy: TV2 and TV3 of rows drawn with replacement, and of shuffled columns."""


@dataclass(frozen=True)
class Scores:
    """Scores of a method, one per seed, or the reason why they are missing."""

    method: str
    tv2: tuple[float, ...] = ()
    tv3: tuple[float, ...] = ()
    auc: tuple[float, ...] = ()
    """AUC on held-out rows of boosted trees trained on synthetic rows."""
    seconds: tuple[float, ...] = ()
    """CPU seconds; empty for references."""
    reason: str = ""

    @property
    def key(self) -> tuple[float, float, float]:
        """Means over seeds of TV2, TV3 and negative AUC; smaller is better."""
        return statistics.fmean(self.tv2), statistics.fmean(self.tv3), -statistics.fmean(self.auc)

    def format_row(self, width: int) -> str:
        """Return the row of the method in the printed table."""
        if self.reason:
            return f"{self.method:<{width}}  {self.reason}"
        tv2, tv3, auc = self.key
        seconds = f"{statistics.fmean(self.seconds):11.0f}" if self.seconds else f"{'':>11}"
        return f"{self.method:<{width}}  {tv2:.4f}  {tv3:.4f}  {-auc:.4f}  {seconds}".rstrip()


def packaged(setting: Setting) -> Iterator[Claim]:
    """Comparison for each table and budget; with `--quick`, for one table."""
    is_full = setting.is_full
    for name in list(PACKAGED)[: None if is_full else 1]:
        for budget in BUDGETS if is_full else setting.budgets:
            yield _compare(setting, name, budget, SEEDS if is_full else setting.seeds)


def _compare(setting: Setting, name: str, budget: Budget, seeds: Sequence[int]) -> Claim:
    claim = f"{name}, {budget.name}: a recipe is at least as good as the best peer in TV2, TV3 and AUC"
    paper = "not in the paper"
    if PACKAGED[name].path() is None:
        return untestable(claim, paper, "needs pip install 'feller-papers[peers]'")
    peers = [peer for peer in PEERS if peer.supports(budget)]
    if not any(peer.interpreter() for peer in peers):
        reason = f"no peer is installed; {PEERS_VARIABLE} names the folder of their environments"
        return untestable(claim, paper, reason)
    theirs = [peer_scores(setting, name, peer, budget, seeds) for peer in peers]
    first = evaluate_method(setting, name, ROW_MODEL, budget, seeds[0])
    ours = [
        _scores(label, [evaluate_method(setting, name, method, budget, seed) for seed in seeds])
        for label, method in OURS.items()
    ]
    return Claim(
        claim,
        paper,
        format_scores([*ours, *theirs, *_references(first)]) + small_run_note(setting),
        seeds_of(seeds),
        best_peer_verdict(ours, theirs),
    )


def best_peer_verdict(ours: Sequence[Scores], theirs: Sequence[Scores]) -> str:
    """Return whether one recipe is at least as good in each score as the peer that is best in it, as a verdict."""
    keys = [scores.key for scores in theirs if not scores.reason]
    best = [min(values) for values in zip(*keys, strict=True)]
    return HOLDS if any(all(a <= b for a, b in zip(own.key, best, strict=True)) for own in ours) else FAILS


def format_scores(rows: Sequence[Scores]) -> str:
    """Return the table of scores as text, one line per method."""
    width = max(len(row.method) for row in rows)
    header = f"{'method':<{width}}  TV2     TV3     AUC     CPU seconds"
    return "\n".join(["", header, *(row.format_row(width) for row in rows)])


def peer_scores(setting: Setting, name: str, peer: Peer, budget: Budget, seeds: Sequence[int]) -> Scores:
    """Return the scores of a peer; if a seed has no rows, the reason of the first such seed."""
    results = [_evaluate_peer(setting, name, peer, budget, seed) for seed in seeds]
    reasons = [result for result in results if isinstance(result, str)]
    if reasons:
        return Scores(peer.name, reason=reasons[0])
    return _scores(peer.name, [result for result in results if isinstance(result, Evaluation)])


@functools.cache
def _evaluate_peer(setting: Setting, name: str, peer: Peer, budget: Budget, seed: int) -> Evaluation | str:
    table, split = PACKAGED[name], get_split(setting, name)
    frames = table.frames(setting.rows)
    if frames is None:
        return NOT_INSTALLED
    sampled = sample_peer(peer, table, frames[0], budget, seed)
    if sampled.rows is None:
        return sampled.reason
    try:
        rows = table.dataset(sampled.rows)
    except InputError as error:
        return f"rows that the public schema does not allow: {error}"
    metrics = samples_quality(rows, split.train, split.held_out, Rng(0).fold_in("quality"))
    return Evaluation(metrics, None, None, budget.epsilon, sampled.seconds)


def _scores(method: str, results: Sequence[Evaluation]) -> Scores:
    tv2, tv3, auc = (tuple(result.metric(name) for result in results) for name in ("tv2", "tv3", "auc_boosted"))
    return Scores(method, tv2, tv3, auc, tuple(result.seconds for result in results))


def _references(evaluation: Evaluation) -> tuple[Scores, Scores]:
    def scores(method: str, suffix: str, auc: str) -> Scores:
        tv2, tv3 = evaluation.metric(f"tv2{suffix}"), evaluation.metric(f"tv3{suffix}")
        return Scores(method, (tv2,), (tv3,), (evaluation.metric(auc),))

    return scores(REAL_ROWS, "_floor", "auc_boosted_real"), scores(
        INDEPENDENT_COLUMNS, "_independent", "auc_boosted_independent"
    )
