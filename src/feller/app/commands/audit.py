"""feller audit."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.app.commands.flag_types import CodeText, DataText, Offers, Real, RunOrWord, Whole
from feller.core.errors import UsageError
from feller.core.run_folder import open_run

CALCULATOR = "calculator"
"""The word that is no run."""
PLAN = ("noise", "rate", "steps", "delta")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Say what could be learned about single rows from RUN, the newest by default, and what bounds it.

    Without a run, for a plan: `feller audit calculator --noise 1.1 --rate 0.01 --steps 10000 --delta 1e-6`.
    """

    deep: ClassVar[str] = ""

    folder: Annotated[RunOrWord, Offers((CALCULATOR,))] = None
    """The run folder; or calculator, for a plan."""
    data: DataText = None
    """The rows that the run learned from; by default where the fit found them."""
    show: int = 10
    """So many of the most exposed rows."""
    shadows: Whole = None
    """Train so many models again, each on half of all rows, to tell who was learned from; it takes as long each."""
    canaries: Whole = None
    """Train once more with so many planted rows, which an attacker looks for."""
    noise: Real = None
    """Of the calculator: deviation of the noise of a step, in clip norms."""
    rate: Real = None
    """Of the calculator: chance of a row to be in a step."""
    steps: Whole = None
    """Of the calculator: steps."""
    delta: Real = None
    """Of the calculator: chance that epsilon does not cover; by default 1e-5."""
    seed: int = 0
    """Of all randomness."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print the numbers as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        if self.folder == CALCULATOR:
            return self._calculate()
        given = [name for name in PLAN if getattr(self, name) is not None]
        if given:
            raise UsageError(f"--{given[0]} belongs to `feller audit {CALCULATOR}`; a run has a ledger of its own")
        if self.show < 0:
            raise UsageError(f"--show takes a number of rows, 0 or more, got {self.show}")
        open_run(self.folder)  # what is not there is told before what takes long is loaded
        from feller.app.commands.resolve_run import find
        from feller.app.terminal import show, speaker
        from feller.app.workflows.audit import audit

        tell = speaker()
        run = find(self.folder, self.code, tell)
        numbers = audit(
            run,
            data=self.data,
            shown=self.show,
            seed=self.seed,
            shadows=self.shadows,
            canaries=self.canaries,
            tell=tell,
        )
        show(numbers, tell)
        return {"run": str(run.path), **numbers}

    def _calculate(self) -> dict[str, Any]:
        """Answer without a run."""
        from feller.app.terminal import show, speaker
        from feller.app.workflows.auditing.plan_calculator import bounds, plan, words

        for name in ("data", "shadows", "canaries"):
            if getattr(self, name) is not None:
                raise UsageError(f"--{name} is about a run; the calculator takes --{', --'.join(PLAN)}")
        found = bounds((plan(self.noise, self.rate, self.steps),), 1e-5 if self.delta is None else self.delta)
        tell = speaker()
        show(found, tell)
        for line in words(found):
            tell.say(line)
        return found
