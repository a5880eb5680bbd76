"""feller fit."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import tyro

from feller.app.commands.arguments import change_fields, check_names
from feller.app.commands.fit_flags import PrivacyFlags, ReadingFlags
from feller.app.commands.kinds import Counted, DataPlace, Positive, RunText, Text, Whole
from feller.app.commands.marks import Offers
from feller.core.errors import UsageError

_DEEPER = (
    "feller.models.recipes.recipe:Recipe",
    "feller.models.recipes.parts:DocumentParts",
    "feller.models.recipes.parts:SpeechParts",
)
"""Where the fields of a recipe are."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit a model to DATA and write a run folder.

    Fields of the recipe follow by their own names, such as --train.lr 1e-4; `feller fit DATA --recipe NAME --help`
    shows them all.
    """

    deep: ClassVar[str] = "--recipe"

    data: DataPlace = None
    """A table of points, places or angles; a folder of images; crystals (.cif, or a column of a .csv);
    molecules (.xyz, .sdf); protein chains (.pdb, .jsonl); a folder of these three; text (.txt, .jsonl, or a column of
    a .csv); documents (a folder of pictures with captions, or .jsonl); speech (a folder of recordings with texts);
    arrays (.npz, .npy); shards that do not fit in memory ('train-{000..099}.tar', 'train-*.tar', or a folder of .tar or
    .parquet); or example:NAME."""
    recipe: Annotated[
        Text,
        Offers(("auto",), ("feller.models.recipes.registry:RECIPES", "feller.models.recipes.registry:SECOND_STAGES")),
    ] = None
    """A recipe's name, or file.py:FUNCTION for your own; by default chosen by the data."""
    out: Text = None
    """The run folder; by default a new one under runs/."""
    minutes: Positive = None
    """How long to train; by default as the recipe says."""
    steps: Counted = None
    """How many steps to train, instead of minutes."""
    size: Annotated[Text, Offers(tables=("feller.models.recipes.recipe:SIZES",))] = None
    """tiny, small or base: of the network and the budget; small by default."""
    start_from: RunText = None
    """Run of an older model: its weights are the first; `reflow` and `distil` learn from it."""
    seed: Whole = None
    """Of all randomness; 0 by default."""
    resume: bool = False
    """Go on with the run in --out, or the newest."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print the report's numbers as one JSON object, last on standard output."""
    reading: Annotated[ReadingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadingFlags)
    """How the data are read; by default as they themselves say."""
    privacy: Annotated[PrivacyFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=PrivacyFlags)
    """Private training, in which no single row can be seen: --epsilon asks for it."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it; `words` set fields of the recipe."""
        if self.steps is not None and self.minutes is not None:
            raise UsageError("--steps and --minutes exclude each other; choose one")
        check_names(words, Fit, *_DEEPER)
        from feller.app.reporter import speaks
        from feller.app.terminal import heard, show, speaker
        from feller.app.workflows.fit import fit, with_budget
        from feller.app.workflows.run_config import asked_of
        from feller.app.workflows.run_status import sketch_of
        from feller.models.recipes.recipe import Recipe

        def change(recipe: Recipe) -> Recipe:
            changed = with_budget(recipe, steps=self.steps, minutes=self.minutes)
            return change_fields(changed, words, "fit DATA") if words else changed

        tell = speaker()
        with heard(tell):
            run, numbers = fit(
                self.data,
                recipe=self.recipe,
                out=self.out,
                size=self.size,
                seed=self.seed,
                longest=self.reading.longest,
                space=self.reading.space,
                project=self.reading.project,
                vocabulary=self.reading.vocabulary,
                target=self.reading.target,
                tokenizer=self.reading.tokenizer,
                schema=self.reading.schema,
                wish=self.privacy.wish(),
                watched=self.privacy.watched(),
                start_from=self.start_from,
                change=change,
                fields=tuple(words),
                resume=self.resume,
                overwrite=self.overwrite,
                tell=tell,
            )
        show(numbers, tell)
        code = f" --code {self.recipe.rpartition(':')[0]}" if self.recipe and ":" in self.recipe else ""
        if asked_of(run).target:
            tell.say(f"ask for samples of another run with: feller steer RUN --reward {run.path}")
        elif "codebook_use" in numbers:
            tell.say(f"see how it copies other pictures with: feller evaluate {run.path} --data OTHER{code}")
        elif "log_mel_error" in numbers:
            tell.say(f"see how it copies other sounds with: feller evaluate {run.path} --data OTHER{code}")
        else:
            tell.say(f"draw samples with: feller sample {run.path}{code}")
        if speaks() and (sketch := sketch_of(run)):
            tell.say(sketch)
        return {"run": str(run.path), **numbers}
