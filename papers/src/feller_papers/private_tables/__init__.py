"""Private tables by a language model over rows, compared with methods of noisy marginals.

Source: Sablayrolles, Wang and Karrer 2023, "Privately generating tabular data using language
models", arXiv 2306.04803.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import replace

from feller_papers.claims import Claim, tested, untestable
from feller_papers.private_tables import ablations, against, against_peers, audits, goals
from feller_papers.private_tables.setting import NONE, STRONG, Setting

TESTS = (
    goals.marginals,
    against.few_rows,
    against.competitive,
    goals.language_model,
    goals.more_budget,
    ablations.raking,
    ablations.grammar,
    ablations.noisy_counts,
    ablations.counts_of_pairs,
    ablations.any_order,
    audits.copies,
    audits.distances,
    goals.all_methods,
    against.protocol,
    against_peers.packaged,
)
"""Functions (setting) -> claims."""

BEYOND = (
    untestable(
        "the paper's other tables, and GPT-2 that was trained on public text",
        "no figure at hand",
        "its tables are not named, and fine-tuning of large models needs GPUs",
    ),
)
"""Claims that a laptop cannot test."""


def private_tables(quick: bool, data: pathlib.Path | None, only: str = "") -> Iterator[Claim]:
    """Return the claims as they are tested; only those of tests with `only` in their name."""
    setting = Setting(seeds=(0,), data=data)
    if quick:
        setting = replace(setting, budgets=(STRONG, NONE), rows=3000, size="tiny", steps=60, batch=256)
    return tested(TESTS, setting, only, BEYOND)
