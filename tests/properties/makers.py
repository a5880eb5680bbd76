"""Small networks, states, batches and predictions for the examples."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from feller import spaces
from feller.core.pytree import STEP_END, State
from feller.core.rng import RandomStream, Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.modality import Target
from feller.data.speech.mel import MelConfig
from feller.data.tables.column import Categorical
from feller.networks.audio.frame_infiller import FrameInfiller, FrameInfillerNetwork
from feller.networks.audio.spectral_vocoder import SpectralVocoder, SpectralVocoderNetwork
from feller.networks.audio.synthetic_speech_detector import WINDOW_FRAMES, SyntheticSpeechDetector
from feller.networks.blocks.relative_positions import PositionEncoding
from feller.networks.blocks.time_conditioning import TimeConditioning
from feller.networks.codebook.conv_tokenizer import ConvTokenizer, ConvTokenizerNetwork
from feller.networks.codebook.quantizer import Quantizer
from feller.networks.image.autoencoder import ConvAutoencoder
from feller.networks.image.patch_discriminator import AdversarialAutoencoder, AdversarialAutoencoderNetwork
from feller.networks.linear_classifier import LinearClassifier, LinearClassifierNetwork, PixelFeatures
from feller.networks.sequence.edit_transformer import EditTransformer
from feller.networks.sequence.language_attention import AttentionPattern
from feller.networks.sequence.language_transformer import LanguageTransformer
from feller.paths import Affine, DataPrediction, Mixture, schedules
from feller.paths import ProductPath as ProductPath
from feller.paths.discrete import token_schedules
from feller.privacy.marginals.marginal_network import MarginalNetwork, MarginalTables
from feller.spaces import CategoryTokenizer, DigitTokenizer, HistoryTokens, TableTokens
from tests.networks.checks import perturb_weights

F64 = torch.float64
ROWS = TableTokens((DigitTokenizer(3, 14), CategoryTokenizer(3)))
HISTORIES = HistoryTokens(TableTokens((CategoryTokenizer(3), CategoryTokenizer(2))), ROWS, 3, 1)
DOCUMENTS = DocumentVocabulary(text=7, codes=5, picture=4)
TWO, BRIGHT = Target(("label",), classes=("red", "green")), PixelFeatures((1, 2, 2), 1.0)
WORDS = spaces.TableTokens(
    tuple(Categorical(name, tuple("xyz"[:size])).field for name, size in (("a", 3), ("b", 2), ("c", 3)))
)


def marginal_network() -> MarginalNetwork:
    """Return a graphical model with potentials that have a gradient."""
    network = MarginalTables(WORDS, ((0, 1), (2, 1), (0,))).build((3,), {}, Rng(0))
    for i, potential in enumerate(network.parameters()):
        potential.data.copy_(Rng(0).stream("potential", i).normal(potential.shape, F64))
        potential.requires_grad_()
    return network


def reals(*shape: int) -> Callable[[int, RandomStream], tuple[Tensor, Tensor]]:
    """Return pairs of a normal source and data around 1."""
    return lambda n, draw: (draw.normal((n, *shape), F64), 1 + 0.5 * draw.normal((n, *shape), F64))


def token_pairs(count: int, *shape: int, mask: bool = False) -> Callable[[int, RandomStream], tuple[Tensor, Tensor]]:
    """Return pairs of uniform tokens, or of the mask and uniform data."""

    def ends(n: int, draw: RandomStream) -> tuple[Tensor, Tensor]:
        x_1 = draw.randint(count, (n, *shape))
        return (torch.full_like(x_1, count) if mask else draw.randint(count, (n, *shape))), x_1

    return ends


def manifold_pairs(space: spaces.Manifold) -> Callable[[int, RandomStream], tuple[Tensor, Tensor]]:
    """Return pairs of points of a space."""

    def ends(n: int, draw: RandomStream) -> tuple[Tensor, Tensor]:
        x_0, x_1 = (space.project(space.sample_base(n, draw).double()) for _ in range(2))
        return x_0, space.exp(x_0, space.log(x_0, x_1) / 2)  # far from where shortest lines split

    return ends


def vanishing_diffusion(scales: schedules.AlphaSigma) -> Any:
    """Return a diffusion coefficient that vanishes at both ends."""
    return scales.alpha * scales.sigma


def certain_logits(count: int) -> Callable[[Tensor], Tensor]:
    """Return tokens -> logits of a point mass, [..., count]."""
    return lambda x: 800.0 * torch.nn.functional.one_hot(x, count).double()


def regression(n: int, draw: RandomStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return predictions and targets of 5 entries with 2 numbers each."""
    prediction, target, x_t = (draw.normal((n, 5, 2), F64) for _ in range(3))
    return prediction, target, x_t, 0.1 + 0.8 * draw.uniform((n,), F64)


def positive_targets(n: int, draw: RandomStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logs of predictions, and positive targets, of 5 entries with 3 numbers each."""
    prediction, target, x_t = (draw.normal((n, 5, 3), F64) for _ in range(3))
    return prediction, target.exp(), x_t, 0.1 + 0.8 * draw.uniform((n,), F64)


def classification(symbols: int) -> Callable[[int, RandomStream], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return logits of 4 symbols for 5 tokens, and tokens of which some are the mask where there are more symbols."""

    def inputs(n: int, draw: RandomStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, target, x_t = draw.normal((n, 5, 4), F64), draw.randint(4, (n, 5)), draw.randint(symbols, (n, 5))
        return logits, target, x_t, 0.1 + 0.8 * draw.uniform((n,), F64)

    return inputs


def masked_classification(n: int, draw: RandomStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the same, with the mask, the symbol 4, in the first two places of every example."""
    logits, target, x_t, t = classification(5)(n, draw)
    x_t[:, :2] = 4
    return logits, target, x_t, t


def product_inputs(n: int, draw: RandomStream) -> tuple[State, State, State, State]:
    """Return inputs of a product: numbers and tokens, with a time for each."""
    real, token = regression(n, draw), classification(4)(n, draw)
    return tuple({"real": a, "token": b} for a, b in zip(real, token, strict=True))


def concentrating_logits(x_1: Tensor, t: Tensor) -> Tensor:
    """Return logits of 4 symbols that concentrate at the data as t goes to 1."""
    return 4 * (t / (1 - t))[:, None] * torch.nn.functional.one_hot(x_1, 4)


def late_weight(t: Tensor) -> Tensor:
    """Return a loss weight that grows with time."""
    return 2 * t


class Small(torch.nn.Module):
    """Two layers on the flattened state and time; `outputs` numbers per entry, one for numbers, K for tokens."""

    def __init__(self, size: int, outputs: int = 1) -> None:
        super().__init__()
        self.null_values = {"label": 3}
        self.size, self.outputs = size, outputs
        generator = torch.Generator().manual_seed(0)
        shapes = {"a": (size + 2, 8), "b": (8, size * outputs)}
        weights = {name: 0.5 * torch.randn(shape, generator=generator, dtype=F64) for name, shape in shapes.items()}
        self.weights = torch.nn.ParameterDict(weights)

    def forward(self, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        label = given.get("label", torch.zeros(len(x_t)))
        kind = self.weights["a"].dtype
        x = torch.cat([x_t.flatten(1).to(kind), t.to(kind)[:, None], label.to(kind)[:, None]], 1)
        out = torch.tanh(x @ self.weights["a"]) @ self.weights["b"]
        return out.reshape(*x_t.shape, self.outputs) if self.outputs > 1 else out.reshape(x_t.shape)


class SmallFlowMap(torch.nn.Module):
    """`Small`, which takes the end of a step; in float32, since targets without gradient have no finite differences."""

    takes_step_end = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.null_values = {"label": 3}
        self.network, self.rest = Small(size).float(), Small(size).float()

    def forward(self, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        length = (given.get(STEP_END, t) - t)[:, None].float()
        first, second = (network(x_t.float(), t.float(), given) for network in (self.network, self.rest))
        return first + length * second


class PerturbedSmall(Small):
    """`Small` with perturbed weights."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.weights = torch.nn.ParameterDict({name: 1.3 * weight.detach() for name, weight in self.weights.items()})


class SmallPair(torch.nn.Module):
    """One network for a product of 2 numbers and 3 tokens of 4 symbols: each answer sees both."""

    def __init__(self) -> None:
        super().__init__()
        self.null_values = {"label": 3}
        self.real, self.token = Small(5), Small(3, 4)

    def forward(self, x_t: State, t: State, given: dict[str, Tensor]) -> State:
        all_of_it = torch.cat([x_t["real"], x_t["token"].double()], 1)
        seen = self.token(x_t["token"], t["token"], given)
        return {
            "real": self.real(all_of_it, t["real"], given)[:, :2],
            "token": seen + x_t["real"].sum(1)[:, None, None],
        }


def batch_of(ends: Callable[[int, RandomStream], tuple[State, State]]) -> Callable[[int, RandomStream], dict[str, Any]]:
    """Return labelled data without a source."""

    def batch(n: int, draw: RandomStream) -> dict[str, Any]:
        return {"x_1": ends(n, draw)[1], "given": {"label": draw.randint(3, (n,))}}

    return batch


def regression_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Draw states, and two numbers told of each, whole ones so that they may be a class."""
    return {"x_1": draw.normal((n, 2), F64), "given": {}, "target": draw.randint(2, (n, 2)).double()}


def sources_of(
    ends: Callable[[int, RandomStream], tuple[State, State]],
) -> Callable[[int, RandomStream], dict[str, Any]]:
    """Return labelled sources without data."""

    def batch(n: int, draw: RandomStream) -> dict[str, Any]:
        return {"x_0": ends(n, draw)[0], "given": {"label": draw.randint(3, (n,))}}

    return batch


def image_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return labelled images of 8 x 8 pixels."""
    return {"x_1": draw.normal((n, 1, 8, 8), F64), "given": {"label": draw.randint(3, (n,))}}


def document_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return documents of a text of 1 to 5 symbols, which may be marked as an answer, and an image."""
    s, many = DOCUMENTS, 1 + draw.randint(5, (n, 1))
    text, codes = draw.randint(s.text, (n, 5)), s.text + draw.randint(s.codes, (n, s.picture))
    marked = draw.randint(2, (n, 1)) > 0
    rows = torch.full((n, 14), s.pad)
    rows[:, 0] = s.eos
    rows[:, 1:2] = torch.where(marked, s.answer_start, s.pad)
    rows[:, 2:7] = torch.where(torch.arange(5) < many, text, s.pad)
    rows[:, 7:8] = torch.where(marked, s.answer_end, s.pad)
    rows[:, 8], rows[:, 9:13], rows[:, 13] = s.break_token, codes, s.break_token
    order = (rows == s.pad).long().argsort(dim=1, stable=True)  # padding goes behind
    return {"x_1": rows.gather(1, order), "given": {}}


class DocumentNetwork(torch.nn.Module):
    """Logits of the next token from the mean of those before it and itself, for rows of any width."""

    def __init__(self) -> None:
        super().__init__()
        self.null_values: dict[str, int] = {}
        draw = Rng(0).stream("reader")
        self.seen = torch.nn.Parameter(draw.normal((DOCUMENTS.num_inputs, 8), F64).contiguous())
        self.told = torch.nn.Parameter(draw.normal((8, DOCUMENTS.num_outputs), F64).contiguous())

    def forward(self, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        many = torch.arange(1, x_t.shape[1] + 1, device=x_t.device)
        return (self.seen[x_t].cumsum(1) / many[:, None]).tanh() @ self.told


def speech_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return frames of 2 bands with one of 3 labels; 5 to 9 of 9 are real, always the same number in a row's place."""
    valid = torch.arange(9) < 9 - 2 * (torch.arange(n)[:, None] % 3)
    return {"x_1": draw.normal((n, 9, 2), F64), "given": {"phone": draw.randint(3, (n, 9)), "valid": valid}}


def duration_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return durations of such labels, 0 to 7 frames."""
    batch = speech_batch(n, draw)
    return {**batch, "x_1": draw.randint(8, (n, 9))}


def frame_infiller(bands: int, clock: TimeConditioning, distance: PositionEncoding) -> FrameInfillerNetwork:
    return perturb_weights(FrameInfiller(16, 2, 2, clock, distance).build((9, bands), {"phone": 3}, Rng(0)))


def binary_image_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return images of 2 x 2 pixels in two classes."""
    return {"x_1": draw.normal((n, 1, 2, 2), F64), "target": draw.randint(2, (n, 1)).double(), "given": {}}


def adversarial_autoencoder() -> AdversarialAutoencoderNetwork:
    config = AdversarialAutoencoder(ConvAutoencoder(2, 16, 1), 8, 2)
    return perturb_weights(config.build((1, 8, 8), {}, Rng(0)), 0.3)


def tokenizer(quantiser: Quantizer) -> ConvTokenizerNetwork:
    return perturb_weights(ConvTokenizer(2, 8, 1, quantiser).build((1, 8, 8), {}, Rng(0)), 0.3)


def waveform_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return sounds of 48 samples, of which 16, 32 or 48 are real, always as many in a row's place."""
    length = 16 * (1 + torch.arange(n) % 3)
    return {"x_1": draw.normal((n, 48), F64) * (torch.arange(48) < length[:, None]), "given": {"length": length}}


def detection_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return windows of log-mel spectrograms, every other one of synthetic audio."""
    return {"window": draw.normal((n, WINDOW_FRAMES, 3), F64), "made": torch.arange(n) % 2 == 1}


def detector() -> SyntheticSpeechDetector:
    return perturb_weights(SyntheticSpeechDetector(3, 1, Rng(0))).eval()


def vocoder() -> SpectralVocoderNetwork:
    return perturb_weights(SpectralVocoder(MelConfig(400, 16, 8, 4, 3, 200), 6, 1).build((48,), {}, Rng(0)))


def linear_classifier() -> LinearClassifierNetwork:
    """Return a linear network with nonzero weights."""
    network = LinearClassifier(BRIGHT).build((1, 2, 2), {}, Rng(0))
    network.theta.data.copy_(Rng(0).stream("theta").normal((5,), F64))
    return network


def product_pairs(n: int, draw: RandomStream) -> tuple[State, State]:
    """Return ends of a product of 2 numbers and 3 tokens."""
    real, token = reals(2)(n, draw), token_pairs(4, 3, mask=True)(n, draw)
    return {"real": real[0], "token": token[0]}, {"real": real[1], "token": token[1]}


def quarter_sine(t: Tensor) -> Tensor:
    """Return sin(pi t / 2)."""
    return torch.sin(math.pi / 2 * t)


def falling_parabola(t: Tensor) -> Tensor:
    """Return 1 - t^2."""
    return 1 - t**2


def half_turn(x: Tensor) -> Tensor:
    """Return the angles on the other side of the circle."""
    return torch.remainder(x + math.pi, 2 * math.pi)


def half_rotation(x: Tensor) -> Tensor:
    """Turn by pi about the body's last axis."""
    return x * x.new_tensor([-1, -1, 1])


def sine_reward(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Return a reward."""
    return x.sin().sum(1)


FLOW: dict[str, Any] = {
    "path": Affine(schedules.Cosine(), DataPrediction()),
    "space": spaces.Euclidean((2,)),
    "guidance": 2.0,
}
SHARES = (0.1, 0.2, 0.3, 0.4)
PER_TOKEN = token_schedules.KineticOptimalPerToken(SHARES)
PAIR = ProductPath({"real": Affine(), "token": Mixture()})


def sequence_batch(n: int, draw: RandomStream) -> dict[str, Any]:
    """Return labelled sequences of up to 5 tokens over 3 symbols, padded by 3."""
    tokens, lengths = draw.randint(3, (n, 5)), draw.randint(6, (n,))
    padded = tokens.masked_fill(torch.arange(5) >= lengths[:, None], 3)
    return {"x_1": padded, "given": {"label": draw.randint(3, (n,))}}


def edit_network() -> torch.nn.Module:
    """A small transformer that predicts edits, with weights that are not zero."""
    return shaken(EditTransformer(3, width=8, depth=1, heads=2).build((5,), {"label": 3}, Rng(0)).double())


def language_network(vocab_size: int, n: int, attention: AttentionPattern) -> torch.nn.Module:
    """A small language transformer, with weights that are not zero."""
    config = LanguageTransformer(vocab_size, attention, width=8, depth=1, heads=2)
    return shaken(config.build((n,), {"label": 3}, Rng(0)).double())


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Add noise to all weights."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=F64))
    return network
