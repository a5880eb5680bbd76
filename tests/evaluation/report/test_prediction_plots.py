"""Pictures of predictions, of copies and of codes."""

import numpy as np
import torch

from feller.data.images.modality import Images
from feller.evaluation.report.prediction_plots import classes_against, copies_picture, numbers_against, use_picture


def test_predictions_against_the_truth() -> None:
    picture = numbers_against(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.5, 2.0], [2.0, 8.0]]), ("a", "$b_c"))
    assert picture.size == (800, 400)
    told = np.array([0, 1, 1, 1])
    table = np.asarray(classes_against(told, np.array([0, 1, 1, 0]), ("x", "y")).convert("L")).astype(float)
    dark = (table < 100).mean(1)  # the second class is always told right: its row holds the darkest field
    assert dark[len(dark) // 2 :].sum() > dark[: len(dark) // 2].sum()


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
