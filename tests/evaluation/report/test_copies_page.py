"""The page of a tokeniser: one sentence, what stands beside what, pictures above their copies."""

import numpy as np
import torch

from feller.data.images.modality import Images
from feller.evaluation.report.html import render
from feller.evaluation.report.metrics import leading, measure, why_missing
from feller.evaluation.report.page import key_numbers
from feller.evaluation.report.prediction_plots import copies_picture, use_picture
from feller.evaluation.report.verdict import verdict

NUMBERS = {
    "reconstruction_mse": 0.01,
    "reconstruction_mse_shrunk": 0.04,
    "psnr": 20.0,
    "psnr_shrunk": 13.98,
    "codebook_use": 0.5,
    "codebook_perplexity": 100.0,
    "codes": 256,
    "codes_per_picture": 16,
    "compared_with": "held-out data",
    "steps": 10,
    "seconds": 1.0,
}


def test_the_sentence() -> None:
    assert verdict(NUMBERS) == (
        "Copies are off by a mean square of 0.0100 (20.0 dB); pictures shrunk to the grid of their codes, by 0.0400"
        " (14.0 dB). They use 50.0\N{NARROW NO-BREAK SPACE}% of the codes."
    )
    exact = {**NUMBERS, "reconstruction_mse": 0.0, "psnr": None}
    assert verdict(exact).startswith("Copies are off by a mean square of 0; pictures")
    assert "not finite" in verdict({**NUMBERS, "reconstruction_mse": float("nan")})


def test_what_leads_and_what_stands_beside() -> None:
    assert leading(NUMBERS) == ["reconstruction_mse", "psnr", "codebook_use", "codebook_perplexity"]
    assert measure("psnr", NUMBERS).floor == "psnr_shrunk"
    assert why_missing("psnr", {"psnr": None}, {}) == "all copies are exact"
    assert "shrinking changes none" in why_missing("psnr_shrunk", {"psnr": 3.0, "psnr_shrunk": None}, {})
    cards = render(key_numbers(NUMBERS, {}, {}))
    assert "How good the copies are" in cards
    assert "becomes its mean colour" in cards
    assert "real against real" not in cards


def test_originals_stand_above_their_copies() -> None:
    """Five pictures in rows of two: the fifth fills no row; the panels' middles are read back."""
    kind = Images(2, 2, 1)
    real, made = (torch.arange(5).mul(20).add(start).to(torch.uint8)[:, None, None, None] for start in (0, 100))
    shown = copies_picture(kind, real.expand(5, 1, 2, 2), made.expand(5, 1, 2, 2), 2)
    cells = np.asarray(shown)
    rows, columns = (np.array_split(np.arange(n), m) for n, m in zip(cells.shape, (4, 2), strict=True))
    middles = [[int(cells[row[len(row) // 2], column[len(column) // 2]]) for column in columns] for row in rows]
    assert middles == [[0, 20], [100, 120], [40, 60], [140, 160]]
    alone = copies_picture(kind, real[:1].expand(1, 1, 2, 2), made[:1].expand(1, 1, 2, 2), 12)
    assert alone.height > alone.width


def test_a_histogram_of_any_use() -> None:
    for shares in (np.full(256, 1 / 256), np.eye(3)[0], np.array([0.5, 0.5, *[0.0] * 254])):
        assert min(use_picture(shares).size) > 200
