"""feller bridge."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from feller.app.commands.arguments import change_fields, changed, check_names
from feller.app.commands.flag_types import Costs, Counted, Limits, Numbers, Offers, Places, Positive, Real, Text, Whole
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """Join populations A, B, ... by paths that cost least: control, and what you say being somewhere costs.

    Fields of the settings follow by their own names, such as --train.steps 3000, or --calls 420 for more steps of
    each path than 210; `feller bridge A B --cost TEXT --help` shows them all.
    """

    deep: ClassVar[str] = "--cost"

    data: Places = ()
    """Two files or more with rows of numbers (.csv, .npz, .npy, .las, ...), or folders of pictures, in the order of
    time; or example:NAME."""
    times: Numbers = ()
    """When each was seen, such as 0 24 48; by default equally far apart."""
    cost: Annotated[Costs, Offers(tables=("feller.app.workflows.bridges.cost_names:NAMES",))] = ()
    """What being somewhere costs: file.py:FUNCTION of (x, t) or (x, t, population), t from 0 to 1, a picture whose
    black is wall, congestion, entropy, density (keep to where the data are), surface=FILE (keep to it), valleys=FILE
    (and low). Each may have NUMBER * before it. Several add up."""
    frame: Numbers = ()
    """Where the picture of walls lies: LEFT RIGHT BOTTOM TOP; by default one pixel is one unit, from (0, 0) up."""
    noise: Real = None
    """How far a free walk strays over the whole journey, a deviation in units of the data, of pictures as numbers from
    -1, black, to 1, white; 0 for none. By default half the deviation within the populations."""
    rounds: Counted = None
    """Drifts that are learned, ahead and back in turn; the last goes ahead, so that an even number becomes one more.
    7 by default."""
    minutes: Positive = None
    """How long to go on, instead of rounds."""
    pairs: Annotated[Whole, Limits(2.0)] = None
    """Pairs of each round; 1,024 by default."""
    resample: Whole = None
    """Weigh so many trajectories for each pair by the cost, instead of trusting round paths; by default only where the
    cost has no gradient, then 64."""
    growth: Positive = None
    """Let members count more or less than others, as cells that divide or die do: how much that costs, in median
    squared distances; 1 is usual, less allows more."""
    longest: Counted = None
    """Longer side to bring pictures to, in pixels."""
    max_memory: Positive = None
    """Gigabytes that looking for paths may take, about."""
    out: Text = None
    """The run folder; by default a new one under runs/."""
    seed: int = 0
    """Of all randomness."""
    resume: bool = False
    """Go on with the bridge in --out, or the newest run, after its last round."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print the report's numbers as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it; `words` set fields of the settings."""
        if self.rounds is not None and self.minutes is not None:
            raise UsageError("--rounds and --minutes exclude each other; choose one")
        if self.resume and (self.data or (self.cost and not any(".py:" in text for text in self.cost))):
            raise UsageError(
                "a resumed bridge knows its populations and costs: name its run alone, with --out; only where a cost is"
                " code of yours (--cost file.py:FUNCTION) all are named again, for no run makes code run"
            )
        wrong = [name for name in changed(self) if name in _BEGUN]
        if self.resume and wrong:
            raise UsageError(f"a resumed bridge keeps what it began with: leave out --{wrong[0].replace('_', '-')}")
        from feller.app.workflows.bridges.is_bridge import check_several

        if not self.resume and "--help" not in words:
            check_several(self.data)
        check_names(words, Bridge, "feller.control.bridges.bridge_config:Bridging")
        from feller.app.reporter import speaks
        from feller.app.terminal import heard, show, speaker
        from feller.app.workflows.bridge import bridge
        from feller.app.workflows.bridges.bridge_options import Wanted
        from feller.app.workflows.run_status import sketch_of
        from feller.control.bridges.bridge_config import Bridging

        def change(settings: Bridging) -> Bridging:
            return change_fields(settings, words, "bridge A B") if words else settings

        tell = speaker()
        wanted = Wanted(
            **{field.name: getattr(self, field.name) for field in fields(Wanted) if field.name != "populations"},
            populations=self.data,
        )
        with heard(tell):
            run, numbers = bridge(
                wanted,
                out=self.out,
                change=change,
                fields=tuple(words),
                resume=self.resume,
                overwrite=self.overwrite,
                tell=tell,
            )
        show(numbers, tell)
        tell.say(f"paths and pairs: {run.path}; push others through it with: feller sample {run.path} --from FILE")
        if speaks() and (sketch := sketch_of(run)):
            tell.say(sketch)
        return {"run": str(run.path), **numbers}


_BEGUN = ("times", "frame", "noise", "pairs", "resample", "growth", "longest", "seed")
"""Flags of what a bridge began with."""
