"""Claims about MNIST in 8 x 8 pixels of 17 levels: forty times the digits of the package."""

import statistics

from feller_papers.claims import Claim, mean_of, spread_of, untestable, verdict
from feller_papers.kinetic_optimal.pictures import PATHS, sampled
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.pictures import Pictures, small_mnist
from feller_papers.setting import file_of

STEPS, COUNT, CALLS = 3000, 5000, (8, 32)
QUALITY = "MNIST in 8 x 8 pixels of 17 levels, 3,000 training steps"
BETTER = "Metric paths beat mask paths on pixels: MNIST in 8 x 8 pixels"


def mnist(setting: Setting) -> list[Claim]:
    """Section 11.2: one training seed, three sampling seeds."""
    asked = "pictures of CIFAR-10 by FID; here at most FD-cnn 0.5 at 8 and 0.35 at 32 calls, others 0.55 at 32"
    file = file_of(setting.data, "images", "mnist", "train-images-idx3-ubyte.gz")
    if setting.minutes is None or file is None:
        why = "takes too long for --quick" if setting.minutes is None else "needs images/mnist in the folder of --data"
        return [untestable(QUALITY, asked, why), untestable(BETTER, "better FID on CIFAR-10", why)]
    return compared(small_mnist(str(file), STEPS, COUNT), asked)


def compared(pictures: Pictures, asked: str) -> list[Claim]:
    """Return the claims about three paths, from samples of three seeds."""
    rows = {
        kind: [[sampled(pictures, kind, 0, calls, draw=draw)[0] for draw in range(3)] for calls in CALLS]
        for kind in PATHS
    }
    means = {kind: [statistics.fmean(row) for row in found] for kind, found in rows.items()}
    told = "; ".join(f"{kind} {', '.join(mean_of(row, 3) for row in found)}" for kind, found in rows.items())
    ratios = [a / b for a, b in zip(rows["metric"][1], rows["mask"][1], strict=True)]
    right = means["metric"][0] <= 0.5 and means["metric"][1] <= 0.35
    right &= max(means["mask"][1], means["uniform"][1]) <= 0.55
    ours = f"FD-cnn after 8, 32 calls, {pictures.count:,} samples: {told}"
    return [
        Claim(QUALITY, asked, ours, "1 training seed, 3 sampling seeds", verdict(right)),
        Claim(
            BETTER,
            "better FID on CIFAR-10",
            f"FD-cnn after 32 calls {mean_of(rows['metric'][1], 3)} against {mean_of(rows['mask'][1], 3)}",
            f"1 training seed; {spread_of(ratios)} of metric over mask, sampling alone",
            verdict(max(ratios) < 1),
        ),
    ]
