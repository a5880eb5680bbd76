"""feller tune."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.app.commands.arguments import by_field, change_fields, check_names
from feller.app.commands.flag_types import BasePlace, CodeText, Counted, Offers, Positive, Text, Wishes, Words, pairs
from feller.core.errors import UsageError
from feller.core.run_folder import begun_run


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Change the model of RUN so that it does what is wished for, always, and stays as diverse as that allows.

    Fields of the recipe follow by their own names, such as --train.lr 1e-4 or --objective.steps 60; `feller tune RUN
    --method NAME --help` shows them all.
    """

    deep: ClassVar[str] = "--method"

    folder: BasePlace = None
    """The run folder; it stays as it is. By default the newest."""
    reward: Wishes = ()
    """What is wished for: file.py:FUNCTION of samples, the run of a regressor, or by name: ink, class=7,
    compressibility, rdkit=qed, chgnet=energy. Each may have NUMBER * before it, or <= NUMBER, >= NUMBER, == NUMBER
    behind it. Several add up."""
    strength: float = 1.0
    """Factor on the reward: how many nats of likelihood one unit of it is worth."""
    out: Text = None
    """The folder of the tuned run; by default a new one under runs/."""
    method: Annotated[Text, Offers(tables=("feller.models.recipes.fine_tuning_methods:METHODS",))] = None
    """adjoint-matching (the default), which aims at the tilted law; for comparison continuous-adjoint,
    discrete-adjoint, draft, refl and filtered; policy-gradient for rewards without a gradient."""
    steps: Counted = None
    """Rounds of roll-outs; 100 by default."""
    minutes: Positive = None
    """How long to tune, instead of rounds."""
    rank: Counted = None
    """Change each matrix of weights by one of this rank; by default all weights change."""
    given: Words = ()
    """Conditions that are always so while tuning, KEY=VALUE; others are drawn as often as in the training data."""
    guidance: float = 1.0
    """Of all samples that tuning looks at; the law of guided samples is what is tuned then."""
    seed: int = 0
    """Of all randomness."""
    resume: bool = False
    """Go on with the tuned run in --out, or the newest."""
    overwrite: bool = False
    """Replace the run in --out."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    report: Annotated[Text, Offers(tables=("feller.evaluation.effort:REPORTS",))] = None
    """full, quick or none; by default it takes a fifth of the tuning's time, and at most two minutes."""
    json: bool = False
    """Print the report's numbers as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it; `words` set fields of the recipe."""
        if self.steps is not None and self.minutes is not None:
            raise UsageError("--steps and --minutes exclude each other; choose one")
        if self.resume and self.folder is not None:
            raise UsageError("a resumed run knows its base: leave out RUN, and name the tuned run with --out")
        if self.resume:
            begun_run(self.out)  # what is not there is told before what takes long is loaded
        words = by_field(words)
        check_names(words, Tune, "feller.models.recipes.recipe:Recipe")
        from feller.app.commands.resolve_run import find
        from feller.app.reporter import speaks
        from feller.app.terminal import heard, show, speaker
        from feller.app.workflows.fitting.plan_fit import with_budget
        from feller.app.workflows.run_status import sketch_of
        from feller.app.workflows.tune import tune
        from feller.models.recipes.recipe import Recipe

        def change(recipe: Recipe) -> Recipe:
            changed = with_budget(recipe, steps=self.steps, minutes=self.minutes)
            return change_fields(changed, words, "tune RUN") if words else changed

        tell = speaker()
        run = find(self.out if self.resume else self.folder, self.code, tell)
        with heard(tell):
            tuned, numbers = tune(
                None if self.resume else run,
                self.reward,
                out=str(run.path) if self.resume else self.out,
                strength=self.strength,
                method=self.method,
                given=pairs(self.given),
                guidance=self.guidance,
                rank=self.rank,
                seed=self.seed,
                change=change,
                fields=tuple(words),
                resume=self.resume,
                overwrite=self.overwrite,
                report=self.report,
                tell=tell,
            )
        show(numbers, tell)
        code = f" --code {self.code}" if self.code else ""
        tell.say(f"draw samples with: feller sample {tuned.path}{code}")
        if speaks() and (sketch := sketch_of(tuned)):
            tell.say(sketch)
        return {"run": str(tuned.path), **numbers}
