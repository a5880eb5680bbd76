"""Tests of the Voicebox reproduction on synthetic sounds, and verdicts for known results."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import write_sound
from feller.data.speech.durations import log_durations
from feller.data.speech.phones import frames_of, repeat_by_duration
from feller.evaluation.speech.speaker_similarity import SpeakerEncoder
from feller.networks.audio.frame_infiller import FrameInfiller
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE
from feller_papers.voicebox import (
    REQUIRED_MODELS,
    comparisons,
    durations,
    filling,
    guidance,
    headline,
    models,
    recognising,
    tasks,
    voicebox,
)
from feller_papers.voicebox.chains import concatenate_clips, make_batch_fn, sample_chains
from feller_papers.voicebox.digits import MEL, Clip, Digits, read_digits
from feller_papers.voicebox.filling import InfillingTask, Metrics, infill_words, infilled_segments, sample_task
from feller_papers.voicebox.judges import Classifier, clip_words, train_judges
from feller_papers.voicebox.pieces import MARGIN, Segments, cut_segments, cut_words, word_span
from feller_papers.voicebox.setting import Setting

SPEAKERS = ("ann", "bob")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with digits of two speakers, four takes each: tones with pitch by speaker and digit."""
    root = tmp_path_factory.mktemp("data")
    place = root / "speech" / "fsdd"
    (place / "recordings").mkdir(parents=True)
    lines, random = [], np.random.default_rng(0)
    for digit in range(10):
        for s, speaker in enumerate(SPEAKERS):
            for take in (0, 1, 5, 6):
                name, n = f"{digit}_{speaker}_{take}.wav", 16 + 2 * take + digit
                time = np.arange(80 * n) / 8_000
                hum = np.sin(2 * np.pi * (200 + 300 * digit + 40 * s) * time) + 0.05 * random.normal(size=80 * n)
                write_sound(Waveform((0.1 * hum).astype(np.float32), 8_000), place / "recordings" / name)
                phones = [["SIL", 0, take], ["AA", take, 6], ["B", take + 6, n - 8 - take], ["SIL", n - 2, 2]]
                lines.append(json.dumps({"file": name, "phones": [p for p in phones if p[2]]}))
    (place / "alignments.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def digits(folder) -> Digits:
    return read_digits(folder / "speech" / "fsdd")


@pytest.fixture
def tiny(folder) -> Setting:
    return Setting(
        folder,
        seeds=(0,),
        network=FrameInfiller(16, 2, 2),
        duration_network=FrameInfiller(16, 2, 2),
        batch_size=2,
        steps=3,
        comparison_steps=2,
        duration_steps=2,
        judge_steps=4,
        recogniser_steps=2,
        num_chains=3,
        few_chains=2,
        nfes=(4, 8),
        guidance_weights=(1.0, 1.7),
        num_samples=2,
        generated_chains=3,
        num_workers=1,
    )


def clip(digit: int, durations: list[int], value: float = 0.0, speaker: int = 0) -> Clip:
    """Return a clip of two phones between silences; its frames hold a value and their index."""
    n = sum(durations)
    mel = torch.full((n, MEL.n_mels), value)
    mel[:, 0] = torch.arange(n)
    phone = torch.tensor([0, 1, 2, 0])
    return Clip(digit, speaker, np.zeros(80 * n, dtype=np.float32), mel, phone, torch.tensor(durations))


def test_digits_are_read_split_and_standardised(digits: Digits) -> None:
    assert (len(digits.train), len(digits.test), digits.speakers) == (40, 40, SPEAKERS)
    mels = torch.cat([clip.mel for clip in digits.train])
    assert mels.mean().item() == pytest.approx(0, abs=1e-4)
    assert mels.std().item() == pytest.approx(1, abs=1e-3)
    for clip in (*digits.train, *digits.test):
        assert int(clip.duration.sum()) == len(clip.mel) == len(clip.sound) / MEL.hop_length
        assert np.sqrt(np.square(clip.sound).mean()) == pytest.approx(0.08, rel=1e-3)
    first = next(clip for clip in digits.test if clip.digit == 3 and clip.speaker == 1)
    assert first.duration.tolist() == [0, 6, 11, 2]
    assert [digits.inventory.names[i] for i in digits.pronunciations()[3]] == ["SIL", "AA_B", "B_E", "SIL"]


def test_max_takes(folder) -> None:
    place = folder / "speech" / "fsdd"
    assert len(read_digits(place, max_takes=6).train) == 20
    with pytest.raises(InputError, match="takes below and from 5"):
        read_digits(place, max_takes=5)


def test_chains_merge_silences_and_index_words() -> None:
    rows = concatenate_clips([[clip(4, [1, 2, 3, 2], 0.5), clip(7, [3, 1, 1, 0], 0.7)], [clip(1, [0, 4, 1, 1])]])
    assert rows.duration.tolist() == [[1, 2, 3, 5, 1, 1, 0], [0, 4, 1, 1, 0, 0, 0]]
    assert rows.phone.tolist()[0] == [0, 1, 2, 0, 1, 2, 0]
    assert rows.word.tolist() == [[-1, 0, 0, -1, 1, 1, -1], [-1, 0, 0, -1, -1, -1, -1]]
    assert rows.digit.tolist() == [[4, 7], [1, -1]]
    assert rows.phone_valid.sum(1).tolist() == [7, 4]
    assert rows.valid.sum(1).tolist() == [13, 6]
    assert rows.frame_phone[0].tolist() == [0, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 1, 2]
    assert rows.start[0].nonzero()[:, 0].tolist() == [0, 1, 3, 6, 11, 12]
    assert rows.start[1].nonzero()[:, 0].tolist() == [0, 4, 5]


def test_chains_are_of_one_speaker_and_of_all_lengths(digits: Digits) -> None:
    chains = sample_chains(digits.train, 400, Rng(0))
    assert {len(chain) for chain in chains} == {2, 3, 4, 5, 6}
    assert all(len({clip.speaker for clip in chain}) == 1 for chain in chains)
    speakers = [chain[0].speaker for chain in chains]
    assert abs(sum(speakers) - 200) < 4 * 10  # four deviations of a fair coin
    lengths = [len(chain) for chain in chains]
    assert all(abs(lengths.count(n) - 80) < 4 * 8 for n in range(2, 7))


def test_batches_have_chains_of_similar_length_without_bias(digits: Digits) -> None:
    get_batch = make_batch_fn(digits.train, 4, Rng(0))
    batches = [get_batch(step, slice(0, 4)) for step in range(60)]
    padding = [1 - b["given"]["valid"].double().mean().item() for b in batches]
    assert sum(padding) / len(padding) < 0.12  # chains of two to six clips in any order would have 0.4
    frames = [n for b in batches for n in b["given"]["valid"].sum(1).tolist()]
    chain_lengths = [sum(len(clip.mel) for clip in chain) for chain in sample_chains(digits.train, 4000, Rng(1))]
    error = np.std(chain_lengths) / math.sqrt(len(batches))  # as many independent batches, at worst
    assert np.mean(frames) == pytest.approx(np.mean(chain_lengths), abs=5 * error)
    same = get_batch(3, slice(1, 3))
    whole = get_batch(3, slice(0, 4))
    n = same["x_1"].shape[1]
    assert torch.equal(same["x_1"], whole["x_1"][1:3, :n])


@pytest.mark.parametrize(("first", "last", "wanted"), [(0, 0, (3, 16)), (1, 1, (17, 31)), (0, 1, (3, 31))])
def test_words_include_a_margin_of_silence(first, last, wanted) -> None:
    duration, word = torch.tensor([6, 5, 3, 5, 4, 3, 30]), torch.tensor([-1, 0, 0, -1, 1, 1, -1])
    assert word_span(duration, word, first, last) == wanted


def test_words_are_cut_row_by_row() -> None:
    rows = concatenate_clips([[clip(4, [0, 2, 3, 0], 0.5), clip(7, [0, 1, 1, 0], 0.7)], [clip(1, [0, 4, 1, 0], 0.9)]])
    segments = cut_words(rows.x, rows.duration, rows.word, rows.digit >= 0)
    assert segments.valid.sum(1).tolist() == [5, 2, 5]
    assert [
        x[valid][:, 1].unique().item() for x, valid in zip(segments.x, segments.valid, strict=True)
    ] == pytest.approx([0.5, 0.7, 0.9])
    gone = rows.duration.where(rows.word != 1, 0)
    assert cut_words(rows.x, gone, rows.word, rows.digit >= 0).valid.sum(1).tolist() == [5, 1, 5]
    assert cut_segments(rows.x, rows.duration, rows.word, [0, 0], [1, 0]).valid.sum(1).tolist() == [7, 5]


def test_classifier_ignores_padding() -> None:
    torch.manual_seed(0)
    network = Classifier(MEL.n_mels, 10).eval()
    x = torch.randn(2, 24, MEL.n_mels)
    valid = torch.ones(2, 24, dtype=torch.bool)
    other = torch.nn.functional.pad(x, (0, 0, 0, 8), value=5.0)
    marks = torch.nn.functional.pad(valid, (0, 8))
    seen, padded = network(x, valid), network(other, marks)
    assert (seen - padded).abs().max() < 0.5 * (seen[0] - seen[1]).abs().max()  # the norm counts it as zero
    assert torch.equal(padded, network(torch.nn.functional.pad(x, (0, 0, 0, 8), value=-9.0), marks))


def test_judges_classify_digits_and_speakers(digits: Digits) -> None:
    judges = train_judges(digits, 60, Rng(0))
    words, labels = clip_words(digits.test), torch.tensor([clip.digit for clip in digits.test])
    assert judges.digit.accuracy(words, labels) > 0.9
    assert judges.digit.distance(words, words) == pytest.approx(0, abs=1e-6)
    assert judges.digit.distance(Segments(words.x.flip(2), words.valid), words) > 10
    assert judges.digit.similarity(words, words).min().item() == pytest.approx(1)
    assert judges.digit.accuracy(words, (labels + 1) % 10) < 0.1


def test_hidden_phones_are_target_words_and_silences_without_context() -> None:
    chain = [clip(i, [1, 2, 2, 1]) for i in range(3)]
    rows = concatenate_clips([chain, chain[:2]])
    last = InfillingTask(rows, torch.tensor([[False, False, True], [False, True, False]]))
    assert last.hidden.long().tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]]
    middle = InfillingTask(rows, torch.tensor([[False, True, False], [False, True, False]]))
    assert middle.hidden[0].long().tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    two = InfillingTask(rows, torch.tensor([[False, True, True], [True, True, False]]))
    assert two.hidden.long().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]]
    assert two.target_digits.tolist() == [1, 2, 0, 1]


def test_context_is_shifted_when_durations_change() -> None:
    chain = [clip(i, [1, 2, 2, 1], i / 10) for i in range(3)]
    task = InfillingTask(concatenate_clips([chain]), torch.tensor([[False, True, False]]))
    new = task.rows.duration.clone()
    new[0, 4:6] = torch.tensor([5, 0])
    moved = task.with_durations(new)
    assert moved.rows.valid.sum().item() == 18 - 4 + 5
    context = frames_of(task.context, task.rows.duration, task.rows.x.shape[1])
    after = frames_of(moved.context, new, moved.rows.x.shape[1])
    assert torch.equal(task.rows.x[context], moved.rows.x[after])
    assert not moved.rows.x[~after].any()
    assert moved.rows.frame_phone[0].tolist() == repeat_by_duration(task.rows.phone, new)[0].tolist()


def test_context_frames_are_unchanged(digits: Digits) -> None:
    network = FrameInfiller(16, 2, 2).build((1, MEL.n_mels), {"phone": len(digits.inventory)}, Rng(0))
    task = sample_task(digits.test, 3, Rng(0))
    x = infill_words(network, models.FRAME_MODELS["flow"].path, task, Rng(1), nfe=2)
    rows = task.rows
    context = frames_of(task.context, rows.duration, rows.x.shape[1])
    assert torch.equal(x[context], rows.x[context])
    assert not torch.equal(x[rows.valid & ~context], rows.x[rows.valid & ~context])
    lengths = infilled_segments(task, x).valid.sum(1)
    assert (lengths <= frames_of(task.hidden, rows.duration).sum(1) + MARGIN).all()
    assert (lengths > 0).all()


def test_durations_are_standardised_by_those_of_all_clips(digits: Digits) -> None:
    rows = concatenate_clips([(clip,) for clip in digits.train])
    logs = log_durations(rows.duration)[rows.phone_valid]
    objective = models.duration_objective("drawn", digits)
    assert (objective.mean, objective.std) == pytest.approx((logs.mean().item(), logs.std().item()), rel=1e-4)


def test_durations_are_compared_with_the_truth() -> None:
    pairs = [((2, 4), (4, 2)), ((8, 8), (6, 6)), ((5, 4), (9, 2))]
    rows = concatenate_clips([[clip(0, [0, *a, 0]), clip(1, [0, *b, 0])] for a, b in pairs])
    task = InfillingTask(rows, torch.tensor([[False, True]] * 3))
    train = concatenate_clips([[clip(0, [0, 4, 8, 0])]])
    metrics = durations.compare_durations((rows.duration + 2 * task.hidden)[None], rows, task.hidden, train)
    phones = task.hidden & (rows.phone > 0)
    assert metrics.error == pytest.approx(2)
    prompt_means = [sum(a) / 2 for a, _ in pairs]
    target_means = [sum(b) / 2 + 2 for _, b in pairs]
    assert (metrics.correlation > 0.5) == (np.corrcoef(prompt_means, target_means)[0, 1] > 0.5)
    samples = (rows.duration + 2)[phones].double()
    distance = (samples.mean() - 6) ** 2 + (samples.std() - torch.tensor([4.0, 8.0]).std()) ** 2
    assert metrics.distance == pytest.approx(distance.item())


def test_noise_has_the_signal_to_noise_ratio() -> None:
    random = np.random.default_rng(0)
    sound, noise = (random.normal(size=4_000).astype(np.float32) for _ in range(2))
    span = slice(1_000, 3_000)
    added = tasks.add_noise(sound, noise, span, -10.0) - sound
    assert not added[:1_000].any()
    assert not added[3_000:].any()
    snr = 10 * np.log10(np.square(sound[span]).mean() / np.square(added[span]).mean())
    assert snr == pytest.approx(-10, abs=0.01)


def test_replaced_word_keeps_the_silences() -> None:
    new = tasks.replace_word(clip(4, [2, 3, 4, 1], 0.5), 8, torch.tensor([0, 5, 6, 7, 0]))
    assert new.duration.tolist() == [2, 1, 1, 1, 1]
    assert new.mel[:, 0].tolist() == [0, 1, 0, 0, 0, 9]
    assert (new.digit, len(new.mel)) == (8, 6)


@pytest.mark.parametrize(
    "test", REQUIRED_MODELS, ids=lambda test: f"{test.__module__.rpartition('.')[2]}.{test.__name__}"
)
def test_claims_are_well_formed(test, tiny: Setting, monkeypatch) -> None:
    monkeypatch.setattr(headline, "transcribe", lambda items: ["one"] * len(items))
    monkeypatch.setattr(SpeakerEncoder, "embed", lambda self, items: torch.eye(256)[: len(items)])
    monkeypatch.setattr(durations, "CHAIN_FACTOR", 1)
    needs = replace(tiny, models=REQUIRED_MODELS[test])  # what a test asks for is what it says that it does
    results = list(test(needs))
    assert results
    for claim in results:
        assert claim.verdict in (HOLDS, FAILS)
        assert "1 seed" in claim.spread
        assert "nan" not in claim.ours
        assert "\n" not in claim.claim + claim.paper + claim.ours + claim.spread


def test_claims_are_untestable_without_the_digits(tmp_path) -> None:
    results = list(voicebox(True, None))
    assert len(results) == len(REQUIRED_MODELS) + 4
    assert {claim.verdict for claim in results} == {UNTESTABLE}
    assert {claim.verdict for claim in voicebox(True, tmp_path, "durations")} == {UNTESTABLE}
    with pytest.raises(UsageError, match="test: expected"):
        voicebox(True, None, "nothing")


def test_main_model_starts_as_the_flow_model(tiny: Setting) -> None:
    """The main model after `comparison_steps` equals the flow model."""
    both = models._train_model(tiny, models.MAIN, 0)
    short = models._train_model(tiny, "flow", 0)
    assert all(np.array_equal(both["flow"][name], short["flow"][name]) for name in short["flow"])
    assert any(not np.array_equal(both["long"][name], both["flow"][name]) for name in short["flow"])


def verdicts(module, test, results: list, monkeypatch) -> list[str]:
    """Return the verdicts for given results, one per seed."""
    monkeypatch.setattr(module, "evaluate_seeds", lambda setting, evaluate: results)
    return [claim.verdict for claim in test.__wrapped__(Setting(seeds=tuple(range(len(results)))))]


def metrics(accuracy: float, similarity: float = 0.5, distance: float = 1.0) -> Metrics:
    return Metrics(accuracy, 1.0, similarity, distance)


def test_claims_of_the_headline(monkeypatch) -> None:
    def shows(*by_calls: float) -> headline.Headline:
        return headline.Headline(metrics(1.0), tuple(metrics(value) for value in by_calls))

    good = shows(0.5, 0.84, 0.85, 0.86, 0.85)
    assert verdicts(headline, headline.understood, [good, good], monkeypatch) == [HOLDS, HOLDS]
    less = shows(0.9, 0.84, 0.79, 0.78, 0.9)
    assert verdicts(headline, headline.understood, [good, less], monkeypatch) == [FAILS, FAILS]
    nothing = shows(0.1, 0.1, 0.1, 0.1, 0.1)
    assert verdicts(headline, headline.understood, [nothing], monkeypatch) == [FAILS, FAILS]
    assert verdicts(headline, headline.whisper, [(0.3, 0.25), (0.0, 0.1)], monkeypatch) == [HOLDS]
    assert verdicts(headline, headline.whisper, [(0.0, 0.26), (0.0, 0.1)], monkeypatch) == [FAILS]
    assert verdicts(headline, headline.fast, [0.29], monkeypatch) == [HOLDS]
    assert verdicts(headline, headline.fast, [0.1, 0.3], monkeypatch) == [FAILS]


def test_claims_of_losses_and_paths(monkeypatch) -> None:
    def beside(flow, regression, everywhere) -> dict:
        rows = {
            "flow": flow,
            "regression": regression,
            "everywhere": everywhere,
            "real": (1.0, 0.0, 1.0),
            "others": (1.0, 0.0, 0.0),
        }
        return {kind: comparisons.LossComparison(metrics(a, distance=d), v) for kind, (a, d, v) in rows.items()}

    good = beside((0.8, 2.0, 0.7), (0.84, 3.0, 0.6), (0.8, 2.0, 0.65))
    assert verdicts(comparisons, comparisons.losses, [good, good], monkeypatch) == [HOLDS] * 4
    bad = beside((0.8, 3.0, 0.6), (0.86, 2.0, 0.7), (0.8, 2.0, 0.65))
    assert verdicts(comparisons, comparisons.losses, [good, bad], monkeypatch) == [FAILS] * 4

    def by(flow, diffusion, score) -> dict:
        rows = {"flow": flow, "diffusion": diffusion, "score": score}
        return {kind: tuple(metrics(value) for value in row) for kind, row in rows.items()}

    good = by((0.1, 0.8, 0.8, 0.8, 0.84), (0.9, 0.5, 0.8, 0.8, 0.9), (0.9, 0.4, 0.9, 0.9, 0.9))
    assert verdicts(comparisons, comparisons.paths, [good], monkeypatch) == [HOLDS] * 3
    bad = by((0.9, 0.5, 0.7, 0.8, 0.9), (0.1, 0.5, 0.8, 0.8, 0.9), (0.1, 0.6, 0.1, 0.1, 0.1))
    assert verdicts(comparisons, comparisons.paths, [good, bad], monkeypatch) == [FAILS] * 3


def test_claims_of_guidance_and_prompts(monkeypatch) -> None:
    def by(*rows: tuple[float, float, float]) -> tuple:
        return tuple(guidance.GuidanceMetrics(a, v, 1.0, d) for a, v, d in rows)

    good = by((0.5, 0.5, 0.9), (0.6, 0.6, 0.8), (0.1, 0.1, 0.7), (0.1, 0.1, 0.6))
    assert verdicts(guidance, guidance.weights, [good], monkeypatch) == [HOLDS] * 3
    bad = by((0.5, 0.5, 0.9), (0.5, 0.4, 0.8), (0.9, 0.9, 0.85), (0.9, 0.9, 0.6))
    assert verdicts(guidance, guidance.weights, [good, bad], monkeypatch) == [FAILS] * 3
    rising = ((0.1, 1.0), (0.5, 1.0), (0.6, 1.0), (0.65, 1.0))
    assert verdicts(guidance, guidance.prompts, [rising], monkeypatch) == [HOLDS] * 2
    falling = ((0.1, 1.0), (0.5, 1.0), (0.6, 1.0), (0.45, 1.0))
    assert verdicts(guidance, guidance.prompts, [rising, falling], monkeypatch) == [FAILS, HOLDS]
    steep = ((0.1, 1.0), (0.2, 1.0), (0.3, 1.0), (0.5, 1.0))
    assert verdicts(guidance, guidance.prompts, [rising, steep], monkeypatch) == [HOLDS, FAILS]


def test_claims_of_noise_and_editing(monkeypatch) -> None:
    def made(noisy: float, infilled: tuple[float, ...]) -> tasks.DenoisingMetrics:
        return tasks.DenoisingMetrics(((noisy, 0.5, 0.9),) * 2, (infilled, infilled[::-1]))

    good = made(0.2, (0.8, 0.82, 0.84))
    assert verdicts(tasks, tasks.noise, [good], monkeypatch) == [HOLDS] * 2
    assert verdicts(tasks, tasks.noise, [good, made(0.7, (0.8, 0.82, 0.86))], monkeypatch) == [FAILS] * 2
    assert verdicts(tasks, tasks.noise, [made(0.0, (0.3, 0.3, 0.3))], monkeypatch)[1] == FAILS
    assert verdicts(tasks, tasks.editing, [(1.0, 0.8)], monkeypatch) == [HOLDS] * 2
    assert verdicts(tasks, tasks.editing, [(1.0, 0.9), (0.999, 0.79)], monkeypatch) == [FAILS] * 2


def test_claims_of_durations_and_recognisers(monkeypatch) -> None:
    def by(alone, once, drawn) -> dict:
        rows = {"truth": (0.0, 0.5, 0.0), "alone": alone, "at once": once, "drawn": drawn}
        return {kind: durations.DurationMetrics(*row) for kind, row in rows.items()}

    good = by((2.6, 0.2, 0.8), (2.4, 0.3, 0.9), (2.5, 0.4, 0.6))
    assert verdicts(durations, durations.kinds, [good], monkeypatch) == [HOLDS] * 3
    bad = by((2.3, 0.35, 0.5), (2.4, 0.3, 0.9), (2.5, 0.4, 0.6))
    assert verdicts(durations, durations.kinds, [good, bad], monkeypatch) == [FAILS] * 3
    taught = recognising.RecogniserAccuracy(0.95, 0.6, 0.6)
    assert verdicts(recognising, recognising.synthetic, [taught], monkeypatch) == [HOLDS] * 3
    other = recognising.RecogniserAccuracy(0.4, 0.4, 0.5)
    assert verdicts(recognising, recognising.synthetic, [taught, other], monkeypatch) == [FAILS] * 3


def test_regression_is_not_guided(digits: Digits, monkeypatch) -> None:
    weights = []

    def infill(*args, guidance, **kwargs):
        weights.append(guidance)
        return args[2]

    monkeypatch.setattr(filling, "infill", infill)
    task = sample_task(digits.test, 2, Rng(0))
    for path in (None, models.FRAME_MODELS["flow"].path):
        infill_words(FrameInfiller(16, 2, 2).build((1, 40), {"phone": 157}, Rng(0)), path, task, Rng(0), guidance=1.7)
    assert weights == [1.0, 1.7]
