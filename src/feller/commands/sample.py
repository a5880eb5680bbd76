"""feller sample."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from feller.commands.arguments import Count, Pair, Real, RunPlace, Text, Whole, Words, named, short
from feller.errors import UsageError
from feller.record import nearest

MOST_LINES = 10
"""Texts that are shown at once; the file has all."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw samples from RUN, the newest by default."""

    deep: ClassVar[str] = ""

    folder: RunPlace = None
    """The run folder."""
    n: Annotated[Count, short("-n")] = None
    """Number of samples, also as 1e6; by default 64, or 9 of documents, or 1 where something is filled in or said."""
    out: Text = None
    """Where they go; the ending decides the form: .npz for all data, and by their kind .csv, .tsv, .parquet, .npy,
    or .txt, .jsonl, .cif, .xyz, .sdf, .pdb; without an ending a folder. By default samples/ in the run."""
    shard: Count = None
    """Write shards of so many samples, and a manifest of them: FOLDER/samples-00000.npz and so on for --out FOLDER,
    FOLDER/NAME-00000.csv for --out FOLDER/NAME.csv, or with {shard} where the number goes, without an ending for
    folders; by default shards/ in the run. The same command goes on with what was killed."""
    overwrite: bool = False
    """Replace shards that were asked for otherwise."""
    calls: Whole = None
    """Network calls per sample; a midpoint step is two."""
    solver: Text = None
    """euler, midpoint, heun, rk4, dopri5, euler-maruyama or ancestral."""
    given: Words = ()
    """Conditions or parts of the data, KEY=VALUE; those not given are drawn: conditions as often as in the training
    data, parts beside the others."""
    superpose: Text = None
    """jump=SHARE, such as jump=0.5: how much of the process jumps and how much flows, for models that can do both."""
    known: Text = None
    """Text to fill in: ___ stands for what is missing, one underscore a symbol, as does all that follows; \\n is a new
    line."""
    complete: Text = None
    """Table whose gaps are filled, in place of -n new rows: cells that are empty, or ? or *, unless their column can be
    that."""
    prompt: Text = None
    """Of documents: words whose picture is drawn, with <image:FILE>, <break>, <mask> and <infill> where they are meant;
    "<image:cat.png> <infill>" asks for a caption. A backslash before < makes it plain."""
    mask: Text = None
    """Of documents: a picture that is white where the one of --prompt is drawn anew."""
    edit: Pair = ()
    """Of documents: a picture and an instruction, whose result is drawn. Of speech: a sound, and in quotes what is said
    in it, that is to say --text instead; what both say is kept."""
    ask: Pair = ()
    """Of documents: a picture and a question, which is answered."""
    memory: Text = None
    """Of documents: what the model looks up; a file or folder of documents, or what `feller data memory` built."""
    documents: Whole = None
    """From --memory, in front of what is asked; by default 2, and no more than there is room for."""
    picture_guidance: Real = None
    """Of --edit: how much the picture counts, where --guidance says how much the words do."""
    plausible: Real = None
    """Of pictures of documents that are guided: symbols may come that are at least so many times as likely as the
    likeliest; by default 0.1, and 0 lets all come."""
    contrast: Text = None
    """Of pictures of documents: K or K:ALPHA, contrastive decoding among symbols at least ALPHA times as likely as the
    K-th; with --guidance beside it, each of both draws every other document."""
    best_of: Whole = None
    """Of pictures of documents: draw so many for each, and keep the one that fits its words best."""
    text: Text = None
    """Of speech: what is to be said."""
    voice: Pair = ()
    """Of speech: a sound in whose voice --text is said; behind it, in quotes, what is said in it, unless that stands in
    a .txt beside it or can be heard by Whisper (extra `judges`). So for all sounds that are named."""
    denoise: Pair = ()
    """Of speech: a sound of which --span is said again, without what was heard there."""
    span: Text = None
    """FROM:TO in seconds, such as 1.2:2.0."""
    style: Pair = ()
    """Of speech: a sound in whose voice and manner --content is said."""
    content: Pair = ()
    """Of speech: a sound that is said again as it was timed, in any voice, or that of --style."""
    speed: Real = None
    """Of speech: so many times as fast as the model would."""
    durations: Text = None
    """Of speech: a table of how long each phone of --text lasts, as lies beside what was said before."""
    spell: bool = False
    """Of speech: say words that the dictionary lacks letter by letter."""
    language: Text = None
    """Of speech in other phones than those of English: the language of --text, as eSpeak names it, such as de."""
    vocoder: Text = None
    """Of speech: what makes sounds of log mels: griffin-lim or griffin-lim:ITERATIONS, a run of the recipe `vocoder`,
    or a folder with the weights of a HiFi-GAN."""
    temperature: Real = None
    """Divides what the network says of symbols: below 1 is safer, above 1 is bolder; by default 1, or 0.5 where words
    are filled in."""
    top_k: Whole = None
    """Draw symbols among so many of the likeliest."""
    top_p: Real = None
    """Draw symbols among the likeliest that hold this share of the probability."""
    order: Text = None
    """Which masked symbols are revealed first: confidence or entropy; by default chance decides."""
    guidance: Real = None
    """1 is the plain conditional model, 0 the unconditional, more sharpens; by default 1, or 1.7 of speech."""
    begin: Annotated[Text, named("--from")] = None
    """Of the run of a bridge: what is pushed through it, a file or folder like those that were bridged; by default the
    population where it begins."""
    backward: bool = False
    """Of the run of a bridge: go back in time."""
    compile: bool = False
    """Compile the network first, which pays for many samples only; needs a C++ compiler."""
    seed: int = 0
    """Of all randomness."""
    code: Text = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print a JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.folder import find
        from feller.commands.sample_documents import write
        from feller.commands.sample_speech import speak
        from feller.commands.terminal import heard, speaker
        from feller.data.documents.modality import Documents
        from feller.data.speech.modality import Speech
        from feller.description import load_description
        from feller.journeys.bridged import bridged_of
        from feller.journeys.sample import sample

        tell = speaker()
        run = find(self.folder, self.code, tell)
        bridged = bridged_of(run) is not None
        modality = None if bridged else load_description(run).modality
        _check_alone(modality, bridged or self.begin is not None)
        if isinstance(modality, Speech):
            self._refuse(others((*SAID, *OF_SPEECH)), "says nothing to a model of speech; leave it out")
            return speak(self, run, tell)
        if self.begin is not None or self.backward or bridged:
            return self._push(run, tell)
        if isinstance(modality, Documents):
            self._refuse(others((*DRAWN, *OF_DOCUMENTS)), "says nothing to a model of documents; leave it out")
            return write(self, run, tell)
        self._refuse(OF_DOCUMENTS, "is of documents, and this model's data are others; leave it out")
        self._refuse(OF_SPEECH, "is of speech, and this model's data are others; leave it out")
        if self.shard is not None:
            return self._write_shards(run, tell)
        if self.overwrite or "{shard}" in (self.out or ""):
            raise UsageError("say with --shard how many samples a file holds; files of their own are replaced as it is")
        with heard(tell):
            drawn, place = sample(
                run, 64 if self.n is None else self.n, out=self.out, complete=self.complete, tell=tell, **self._asked()
            )
        for line in _lines(drawn, MOST_LINES):
            tell.say(line)
        tell.say(f"{len(drawn):,} samples: {place}")
        return {"run": str(run.path), "samples": str(place), "n": len(drawn)}

    def _asked(self) -> dict[str, Any]:
        """Return what is asked of the samples."""
        return {
            "given": pairs(self.given),
            "guidance": 1.0 if self.guidance is None else self.guidance,
            "solver": self.solver,
            "calls": self.calls,
            "choice": self.choice(),
            "order": _order(self.order),
            "jump": _share(self.superpose),
            "known": None if self.known is None else self.known.replace("\\n", "\n"),
            "compiled": self.compile,
            "seed": self.seed,
        }

    def _write_shards(self, run: Any, tell: Any) -> dict[str, Any]:
        """Write many samples."""
        from feller.commands.terminal import heard
        from feller.journeys.drawing import ready
        from feller.journeys.sharded import sample_shards

        if self.complete is not None:
            raise UsageError("--complete writes the rows of its table, all in one file; leave out --shard")
        with heard(tell):
            drawing, n = ready(run, tell=tell, **self._asked()), 64 if self.n is None else self.n
            found = sample_shards(run, drawing, n, self.shard or 0, out=self.out, overwrite=self.overwrite, tell=tell)
        tell.say(f"{n:,} samples in {len(found):,} shards: {found.folder}")
        return {"run": str(run.path), "samples": str(found.folder), "n": n, "shards": len(found)}

    def _push(self, run: Any, tell: Any) -> dict[str, Any]:
        """Push data through a bridge."""
        from feller.commands.terminal import heard
        from feller.journeys.push import push

        self._refuse(others(PUSHED), "is of samples that begin with noise; a bridge has none")
        with heard(tell):
            ends, place = push(run, self.begin, out=self.out, backward=self.backward, seed=self.seed, tell=tell)
        tell.say(f"{len(ends):,} ends: {place}")
        return {"run": str(run.path), "samples": str(place), "n": len(ends)}

    def choice(self) -> Any:
        """Return how symbols are drawn."""
        from feller.paths import Choice

        return Choice(1.0 if self.temperature is None else self.temperature, self.top_k, self.top_p)

    def _refuse(self, names: tuple[str, ...], why: str) -> None:
        """Refuse flags that were given.

        Raises:
            UsageError: If any was.
        """
        usual = {field.name: field.default for field in fields(Sample)}
        wrong = [name for name in names if getattr(self, name) != usual[name]]
        if wrong:
            flag = "from" if wrong[0] == "begin" else wrong[0].replace("_", "-")
            raise UsageError(f"--{flag} {why}")


def _check_alone(modality: Any, bridged: bool) -> None:
    """Refuse several processes where they could not share the work, and would all write one file.

    Raises:
        UsageError: If there are several.
    """
    from feller.data.documents.modality import Documents
    from feller.data.speech.modality import Speech
    from feller.train.engine import engine

    kinds = ("speech", isinstance(modality, Speech)), ("documents", isinstance(modality, Documents))
    what = next((name for name, is_it in (*kinds, ("the ends of a bridge", bridged)) if is_it), None)
    if what is not None and engine().ranks > 1:
        raise UsageError(f"{what} are drawn by one process; start this without torchrun")


def others(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return all other flags."""
    return tuple(field.name for field in fields(Sample) if field.name not in names)


OF_DOCUMENTS = (
    "prompt",
    "mask",
    "edit",
    "ask",
    "memory",
    "documents",
    "picture_guidance",
    "plausible",
    "contrast",
    "best_of",
)
"""Flags that documents alone take."""
DRAWN = ("folder", "n", "out", "guidance", "temperature", "top_k", "top_p", "seed", "code", "json")
"""Flags that documents take like others."""
OF_SPEECH = (
    *("text", "voice", "denoise", "span", "edit", "style", "content"),
    *("speed", "durations", "spell", "language", "vocoder"),
)
"""Flags that speech takes; `edit` is of documents, too."""
SAID = ("folder", "n", "out", "calls", "solver", "guidance", "seed", "code", "json")
"""Flags that speech takes like others."""
PUSHED = ("folder", "out", "begin", "backward", "seed", "code", "json")
"""Flags that a bridge takes."""


def _lines(drawn: Any, most: int) -> list[str]:
    """Return the first samples where they are text, each after a line that counts."""
    from feller.data.text.modality import Text

    if not isinstance(drawn.modality, Text):
        return []
    return [f"--- {i}\n{text}" for i, text in enumerate(drawn.modality.texts(drawn.values[:most]), 1)]


def _order(name: str | None) -> Any:
    """Return the order with a name."""
    from feller.paths import Confidence, Entropy

    orders = {"confidence": Confidence, "entropy": Entropy}
    if name is None:
        return None
    if name not in orders:
        raise UsageError(f"no order is called {name!r}: {nearest(name, list(orders))}")
    return orders[name]()


def _share(text: str | None) -> float | None:
    """Return the share of the jumps."""
    if text is None:
        return None
    name, _, share = text.partition("=")
    if name != "jump":
        raise UsageError(f"--superpose takes jump=SHARE, got {text!r}")
    try:
        return float(share)
    except ValueError:
        raise UsageError(f"--superpose takes jump=SHARE with a share from 0 to 1, got {text!r}") from None


def pairs(words: tuple[str, ...]) -> dict[str, str]:
    """Split KEY=VALUE."""
    pairs: dict[str, str] = {}
    for word in words:
        key, is_there, value = word.partition("=")
        if not is_there:
            raise UsageError(f"--given takes KEY=VALUE, got {word!r}")
        if key in pairs:
            raise UsageError(f"--given says {key} twice, {pairs[key]!r} and {value!r}; leave one out")
        pairs[key] = value
    return pairs
