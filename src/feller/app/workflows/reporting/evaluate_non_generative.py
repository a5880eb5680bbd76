"""From a tokeniser's run to how much its codes keep of pictures, and to a page to look at."""

from typing import Any

from feller.app.reporter import Tell
from feller.app.workflows.reporting.examined import Told, examined, report
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.data.images.modality import Images
from feller.data.loading.read import read
from feller.evaluation.image_tokenizer import EXPLAIN, code_shares, copies, copy_errors, writer
from feller.evaluation.report.code_use import copies_picture, use_picture
from feller.models.model import Model

COLUMNS, ROWS = 12, 4
"""Pictures that are shown above their copies."""


def copy(run: Run, model: Model, *, data: str | None, samples: str | None, tell: Tell) -> dict[str, Any]:
    """Write pictures that training did not see as codes, read them back, and report what is left of them.

    Args:
        run: Holds the model.
        model: What it holds.
        data: Pictures to judge it by; by default those that the fit kept back.
        samples: There are none; a name is refused.
        tell: Hears how it goes.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If samples are named.
    """
    network, modality = writer(model), model.description.modality
    if not isinstance(modality, Images):
        raise InputError(f"{run.model} names a tokeniser of {modality.called}, expected one of pictures; fit it anew")
    it = examined(
        run,
        model,
        data=data,
        samples=samples,
        read_other=lambda source, asked: read(source, longest=asked.longest, like=modality),
    )
    tell.task("writing and reading pictures")
    made = copies(model, it.real)
    tell.done()
    many, count = made.codes.shape[1], network.settings.quantiser.count
    numbers = copy_errors(it.real.values, made, count=count, grid=network.grid, white=modality.levels)
    title = f"{it.asked.data} as codes, by the recipe {it.asked.recipe}"
    whose = "Pictures" if it.data is not None or it.seen else "Held-out pictures"
    shown = slice(COLUMNS * ROWS)
    found = Told(
        title=title if data is None else f"{title}, tried on {data}",
        judged=f"Judged: copies, from {many} codes of {count} each, of {len(it.real):,} pictures {it.which}",
        numbers=numbers,
        explanations=EXPLAIN,
        pictures=[
            (
                f"{whose}, each row above its copies",
                copies_picture(modality, it.real.values[shown], made.values[shown], COLUMNS),
            ),
            (
                "How many codes are used how often",
                use_picture(code_shares(made.codes, count).numpy()),
            ),
        ],
        heading="Copies",
    )
    return report(it, found, tell)
