"""`feller fit` and its groups of flags."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from feller.app.commands.arguments import by_field, change_fields, check_names
from feller.app.commands.flag_types import (
    Counted,
    DataPlace,
    Names,
    Offers,
    Positive,
    Real,
    RunText,
    Text,
    Whole,
    Words,
)
from feller.core.errors import UsageError

if TYPE_CHECKING:
    from feller.app.workflows.private.privacy_config import PrivacyConfig


ADAPTIVE = "adaptive"


@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """How data are read."""

    longest: Counted = None
    """Bring images to this longer side, by default at most 64, of documents 32; leave out chains of more residues, by
    default 128, and crystals and molecules of more atoms, by default 64, and sounds of more seconds, by default 30;
    learn texts of so many symbols, by default 128."""
    space: Annotated[Text, Offers(tables=("feller.data.points.named_spaces:NAMES",))] = None
    """Where rows of numbers lie: sphere, torus, simplex, poincare, spd, rotations, euclidean, or a mesh (.obj .off)."""
    project: bool = False
    """Move points beside --space to the nearest on it, instead of refusing them."""
    vocabulary: Annotated[Text, Offers(tables=("feller.data.text.dataset:NAMES",))] = None
    """Symbols of a text: characters, bytes, subwords or subwords:NUMBER; by default characters, where there are few."""
    tokenizer: Annotated[Text, Offers(tables=("feller.app.workflows.fitting.auxiliary_networks:NAMED",))] = None
    """Of documents: the run of a tokeniser of their pictures; or palette, where these have few colours, tiles, where
    small squares recur in them, or learned: one is trained first. By default tiles if all is made of few, else that."""
    target: Names = ()
    """What is to be told of the data, instead of drawing such: numbers that XYZ comments, SDF records, columns of a
    table or those beside one of CIF give; or label, the class."""
    schema: Text = None
    """File that says what is public about a table: its columns, and which cells they may have; `feller data schema`
    writes one."""


@dataclass(frozen=True, kw_only=True)
class PrivacyFlags:
    """Of private training."""

    epsilon: Real = None
    """Protect each row: what the model tells depends on no single one but by a factor of e^EPSILON."""
    delta: Annotated[Text, Offers(("auto",))] = None
    """Chance that --epsilon does not cover, or auto: min(1e-5, 1 / rows^1.1)."""
    noise: Real = None
    """Noise of private training in clip norms, instead of --epsilon."""
    stop_at_epsilon: Real = None
    """With --noise: train no further than this epsilon."""
    clip: Annotated[Text, Offers((ADAPTIVE,))] = None
    """Longest gradient of one row in private training, 1 by default; or adaptive, which follows the middle of their
    lengths by a noisy count."""
    audit: Words = ()
    """fisher=ROWS keeps account of what each step of private training tells about so many rows, for `feller audit`."""
    unsafe_seed: Whole = None
    """Draw private noise from a seed, so that it can be repeated, and taken away by whoever knows it: for tests."""

    def wish(self) -> "PrivacyConfig | None":
        """Return the privacy that is asked for."""
        from feller.app.workflows.private.privacy_config import PrivacyConfig

        given = (self.epsilon, self.delta, self.noise, self.stop_at_epsilon, self.clip, self.unsafe_seed)
        if all(value is None for value in given):
            return None
        delta = _number("--delta is a chance such as 1e-6", self.delta, "auto")
        clip = _number("--clip is a length such as 1", self.clip, ADAPTIVE)
        return PrivacyConfig(
            epsilon=self.epsilon,
            delta=delta,
            noise=self.noise,
            stop_at=self.stop_at_epsilon,
            clip=1.0 if clip is None else clip,
            adaptive=self.clip == ADAPTIVE,
            unsafe_seed=self.unsafe_seed,
        )

    def watched(self) -> int:
        """Return how many rows are watched."""
        if not self.audit:
            return 0
        kind, _, count = self.audit[0].partition("=")
        if len(self.audit) > 1 or kind != "fisher" or not count.isdecimal() or int(count) < 1:
            raise UsageError(f"--audit takes fisher=ROWS, such as fisher=64, got {' '.join(self.audit)}")
        return int(count)


def _number(what: str, text: str | None, word: str) -> float | None:
    """Return a number; None where there is nothing, or a word that stands for none.

    Raises:
        UsageError: If it is neither.
    """
    if text is None or text == word:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{what}, or {word}, got {text!r}") from error


def _example_for(recipe: str | None) -> str | None:
    """Return the first example that a recipe takes, whose help depends on its data; None if there is none."""
    from feller.core.errors import InputError
    from feller.data.examples.registry import EXAMPLE, SHIPPED
    from feller.data.loading.read import read
    from feller.models.recipes.registry import find_recipe

    for name in dict.fromkeys(("digits", *SHIPPED)):
        try:
            find_recipe(recipe or "auto", read(f"{EXAMPLE}{name}"), "small")
        except (InputError, UsageError):
            continue
        return f"{EXAMPLE}{name}"
    return None


_DEEPER = (
    "feller.models.recipes.recipe:Recipe",
    "feller.models.recipes.recipe:DocumentParts",
    "feller.models.recipes.recipe:SpeechParts",
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
    report: Annotated[Text, Offers(tables=("feller.evaluation.effort:REPORTS",))] = None
    """full, quick or none; by default it takes a fifth of the training's time, and at most two minutes."""
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
        words = by_field(words)
        check_names(words, Fit, *_DEEPER)
        from feller.app.reporter import speaks
        from feller.app.terminal import heard, show, speaker
        from feller.app.workflows.fit import fit
        from feller.app.workflows.run_config import asked_of
        from feller.app.workflows.run_status import sketch_of
        from feller.models.recipes.recipe import Recipe

        def change(recipe: Recipe) -> Recipe:
            return change_fields(recipe, words, "fit DATA") if words else recipe

        tell = speaker()
        data = _example_for(self.recipe) if "--help" in words and self.data is None and not self.resume else self.data
        with heard(tell):
            run, numbers = fit(
                data,
                recipe=self.recipe,
                steps=self.steps,
                minutes=self.minutes,
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
                report=self.report,
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
        elif self.report != "none":
            tell.say(f"draw samples with: feller sample {run.path}{code}")
        else:
            tell.say(f"evaluate it with: feller evaluate {run.path}{code}")
        if speaks() and (sketch := sketch_of(run)):
            tell.say(sketch)
        return {"run": str(run.path), **numbers}
