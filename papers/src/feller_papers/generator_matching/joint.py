"""Claims about the joint generation of an image, by flow and jumps, and its label, as a masked token."""

import statistics

import torch

from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.generator_matching.pictures import decode, draw_images, encode, fitted, sample_metrics
from feller_papers.generator_matching.setting import BOTH, FLOW, MIDPOINT, Sampler, Setting
from feller_papers.pictures import digits

LATE = 0.998
"""Time of a real image in label prediction, with almost no noise."""


def joint_metrics(setting: Setting, sampler: Sampler, seed: int) -> tuple[float, float, float]:
    """Return FD-cnn of joint samples, the label agreement, and the agreement with shuffled labels."""
    pictures = digits(setting.digits)
    found = draw_images(pictures, sampler, setting.calls, seed, {})
    values, label = decode(found["image"]), found["label"]
    order = torch.randperm(len(label), generator=Rng(seed).stream("shuffled").shared_generator())
    judge = pictures.judge
    return judge.distance(values), judge.accuracy(values, label), judge.accuracy(values, label[order])


@torch.no_grad()
def label_accuracy(setting: Setting, seed: int) -> float:
    """Return the accuracy of the predicted labels of test images."""
    data, model = read("example:digits/test"), fitted(digits(setting.digits), seed)
    image, label = encode(data.values), data.given["label"]
    x_0 = model.space.sample_base(len(label), Rng(seed).stream("source"))
    t = {"image": torch.full((len(label),), LATE), "label": torch.zeros(len(label))}
    x_t = {"image": LATE * image + (1 - LATE) * x_0["image"], "label": x_0["label"]}
    return torch.eq(model.network(x_t, t, {})["label"].argmax(1), label).double().mean().item()


def coupled(setting: Setting) -> list[Claim]:
    """Return the claims of proposition 4 about a process per leaf with one network."""
    seeds, paper = setting.seeds, "proteins: sequence and structure; here at least "
    rows = {
        name: list(zip(*(joint_metrics(setting, sampler, seed) for seed in seeds), strict=True))
        for name, sampler in (("flow", FLOW), ("superposition", BOTH), ("midpoint flow", MIDPOINT))
    }
    given = [sample_metrics(setting, FLOW, setting.calls, seed) for seed in seeds]
    right = [share for _, share in given]
    accuracies = [label_accuracy(setting, seed) for seed in seeds]
    agree, shuffled = rows["flow"][1], rows["flow"][2]
    fd = ", ".join(f"{name} {mean_of(row[0], 3)}" for name, row in rows.items())
    return [
        Claim(
            f"A picture and its label are drawn together: digits, {setting.calls} calls",
            paper + "80 % agree, with labels shuffled at most 15 %",
            f"{', '.join(f'{name} {statistics.fmean(row[1]):.1%}' for name, row in rows.items())} agree in the eyes of "
            f"our judge; with labels shuffled {statistics.fmean(shuffled):.1%}",
            f"{spread_of(agree)}; shuffled {spread_of(shuffled)}",
            verdict(min(agree) >= 0.8 and max(shuffled) <= 0.15),
        ),
        Claim(
            f"The same network draws pictures of a given label: digits, {setting.calls} calls",
            paper + "92 % agree",
            f"{statistics.fmean(right):.1%} agree",
            spread_of(right),
            verdict(min(right) >= 0.92),
        ),
        Claim(
            "The same network tells the label of a real picture it has not seen: digits",
            paper + "93 % right",
            f"{statistics.fmean(accuracies):.1%} right of 360",
            spread_of(accuracies),
            verdict(min(accuracies) >= 0.93),
        ),
        Claim(
            f"Pictures drawn beside their labels are as good as those of given labels: digits, {setting.calls} calls",
            "not in the paper",
            f"FD-cnn {fd}; with labels given {mean_of([distance for distance, _ in given], 3)}, "
            f"{statistics.fmean(right):.1%} agree against {statistics.fmean(agree):.1%}",
            spread_of([a - b for a, b in zip(right, agree, strict=True)]) + " of what is lost in agreement",
            verdict(statistics.fmean(agree) >= statistics.fmean(right) - 0.01),
        ),
    ]
