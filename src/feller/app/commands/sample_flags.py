"""Flags of feller sample."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import tyro

from feller.app.commands.flag_types import (
    CodeText,
    Count,
    Counted,
    Limits,
    Offers,
    Pair,
    Real,
    RunPlace,
    Said,
    Text,
    Whole,
    Words,
    named,
    short,
)


@dataclass(frozen=True, kw_only=True)
class ShardFlags:
    """Of many samples."""

    shard: Count = None
    """Write shards of so many samples, and a manifest of them: FOLDER/samples-00000.npz and so on for --out FOLDER,
    FOLDER/NAME-00000.csv for --out FOLDER/NAME.csv, or with {shard} where the number goes, without an ending for
    folders; by default shards/ in the run. The same command goes on with what was killed."""
    compile: bool = False
    """Compile the network first, which pays for many samples only; needs a C++ compiler."""


@dataclass(frozen=True, kw_only=True)
class SymbolFlags:
    """Of how symbols are drawn."""

    temperature: Annotated[Real, Limits(0.0)] = None
    """Divides what the network says of symbols: below 1 is safer, above 1 is bolder; by default 1, or 0.5 where words
    are filled in."""
    top_k: Counted = None
    """Draw symbols among so many of the likeliest."""
    top_p: Real = None
    """Draw symbols among the likeliest that hold this share of the probability."""
    order: Annotated[Text, Offers(tables=("feller.sampling.sampler_config:ORDERS",))] = None
    """Which masked symbols are revealed first: confidence or entropy; by default chance decides."""

    rates: Annotated[Text, Offers(tables=("feller.sampling.sampler_config:RATES",))] = None
    """Rates of the jumps of symbols: kinetic-optimal or reversal; by default those of the model. bits_per_token bounds
    samples of reversal, for models whose source is no mask."""

    def choice(self) -> Any:
        """Return how symbols are drawn."""
        from feller.paths import Choice

        return Choice(1.0 if self.temperature is None else self.temperature, self.top_k, self.top_p)


@dataclass(frozen=True, kw_only=True)
class DocumentFlags:
    """What documents alone take."""

    prompt: Said = None
    """Words whose picture is drawn, with <image:FILE>, <break>, <mask> and <infill> where they are meant;
    "<image:cat.png> <infill>" asks for a caption. A backslash before < makes it plain."""
    mask: Text = None
    """A picture that is white where the one of --prompt is drawn anew."""
    ask: Pair = ()
    """A picture and a question, which is answered."""
    memory: Text = None
    """What the model looks up; a file or folder of documents, or what `feller data memory` built."""
    documents: Whole = None
    """From --memory, in front of what is asked; by default 2, and no more than there is room for."""
    picture_guidance: Real = None
    """Of --edit: how much the picture counts, where --guidance says how much the words do."""
    plausible: Real = None
    """Of pictures that are guided: symbols may come that are at least so many times as likely as the
    likeliest; by default 0.1, and 0 lets all come."""
    contrast: Text = None
    """Of pictures: K or K:ALPHA, contrastive decoding among symbols at least ALPHA times as likely as the
    K-th; with --guidance beside it, each of both draws every other document."""
    best_of: Counted = None
    """Of pictures: draw so many for each, and keep the one that fits its words best."""


@dataclass(frozen=True, kw_only=True)
class SpeechFlags:
    """What speech alone takes."""

    text: Said = None
    """What is to be said."""
    voice: Pair = ()
    """A sound in whose voice --text is said; behind it, in quotes, what is said in it, unless that stands in
    a .txt beside it or can be heard by Whisper (extra `judges`). So for all sounds that are named."""
    denoise: Pair = ()
    """A sound of which --span is said again, without what was heard there."""
    span: Said = None
    """FROM:TO in seconds, such as 1.2:2.0."""
    style: Pair = ()
    """A sound in whose voice and manner --content is said."""
    content: Pair = ()
    """A sound that is said again as it was timed, in any voice, or that of --style."""
    speed: Real = None
    """So many times as fast as the model would."""
    durations: Text = None
    """A table of how long each phone of --text lasts, as lies beside what was said before."""
    spell: bool = False
    """Say words that the dictionary lacks letter by letter."""
    language: Text = None
    """In other phones than those of English: the language of --text, as eSpeak names it, such as de."""
    vocoder: Text = None
    """What makes sounds of log mels: griffin-lim or griffin-lim:ITERATIONS, a run of the recipe `vocoder`,
    or a folder with the weights of a HiFi-GAN."""


@dataclass(frozen=True, kw_only=True)
class BridgeFlags:
    """What the run of a bridge alone takes."""

    begin: Annotated[Text, named("--from")] = None
    """What is pushed through it, a file or folder like those that were bridged; by default the
    population where it begins."""
    backward: bool = False
    """Go back in time."""


@dataclass(frozen=True, kw_only=True)
class SampleFlags:
    """What may be asked of samples, of runs of all kinds."""

    deep: ClassVar[str] = ""

    folder: RunPlace = None
    """The run folder."""
    n: Annotated[Count, short("-n")] = None
    """Number of samples, also as 1e6; by default 64, or 9 of documents, or 1 where something is filled in or said. A
    bridge takes none: it pushes each member once."""
    out: Text = None
    """Where they go; the ending decides the form: .npz for all data, and by their kind .csv, .tsv, .parquet, .npy,
    or .txt, .jsonl, .cif, .xyz, .sdf, .pdb; without an ending a folder. By default samples/ in the run."""
    overwrite: bool = False
    """Replace the file of --out, or shards that were asked for otherwise."""
    given: Words = ()
    """Conditions or parts of the data, KEY=VALUE; those not given are drawn: conditions as often as in the training
    data, parts beside the others."""
    guidance: Real = None
    """1 is the plain conditional model, 0 the unconditional, more sharpens; by default 1, or 1.7 of speech."""
    calls: Counted = None
    """Network calls per sample; a midpoint step is two."""
    solver: Annotated[Text, Offers(tables=("feller.sampling.sampler_config:SOLVERS",))] = None
    """euler, midpoint, heun, rk4, dopri5, euler-maruyama or ancestral."""
    known: Said = None
    """Text to fill in: ___ stands for what is missing, one underscore a symbol, as does all that follows; \\n is a new
    line."""
    complete: Text = None
    """Table whose gaps are filled, in place of -n new rows: cells that are empty, or ? or *, unless their column can be
    that."""
    superpose: Text = None
    """jump=SHARE, such as jump=0.5: how much of the process jumps and how much flows, for models that can do both."""
    edit: Pair = ()
    """Of documents: a picture and an instruction, whose result is drawn. Of speech: a sound, and in quotes what is said
    in it, that is to say --text instead; what both say is kept."""
    seed: int = 0
    """Of all randomness."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print a JSON object, last on standard output."""
    shards: Annotated[ShardFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=ShardFlags)
    """Of many samples: where they lie, and how they are drawn fast."""
    symbols: Annotated[SymbolFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=SymbolFlags)
    """Of texts, documents, sequences: how symbols are drawn."""
    documents: Annotated[DocumentFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=DocumentFlags)
    """What is asked of a run of documents, beside --edit."""
    speech: Annotated[SpeechFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=SpeechFlags)
    """What is asked of a run of speech, beside --edit."""
    bridge: Annotated[BridgeFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=BridgeFlags)
    """What is asked of the run of a bridge."""
