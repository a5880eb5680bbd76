"""Claims about MNIST in 8 x 8 pixels of 17 levels."""

import statistics

from feller_papers.claims import Claim, mean_of, spread_of, untestable, verdict
from feller_papers.kinetic_optimal.pictures import PATHS, sample_metrics
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.pictures import Pictures, small_mnist
from feller_papers.setting import file_of

STEPS, COUNT, CALLS = 3000, 5000, (8, 32)
QUALITY = "MNIST in 8 x 8 pixels of 17 levels, 3,000 training steps"
BETTER = "Metric paths beat mask paths on pixels: MNIST in 8 x 8 pixels"


def mnist(setting: Setting) -> list[Claim]:
    """Return the claims of section 11.2, with one training and three sampling seeds."""
    criterion = "pictures of CIFAR-10 by FID; here at most FD-cnn 0.5 at 8 and 0.35 at 32 calls, others 0.55 at 32"
    file = file_of(setting.data, "images", "mnist", "train-images-idx3-ubyte.gz")
    if setting.minutes is None or file is None:
        reason = (
            "takes too long for --quick" if setting.minutes is None else "needs images/mnist in the folder of --data"
        )
        return [untestable(QUALITY, criterion, reason), untestable(BETTER, "better FID on CIFAR-10", reason)]
    return path_claims(small_mnist(str(file), STEPS, COUNT), criterion)


def path_claims(pictures: Pictures, criterion: str) -> list[Claim]:
    """Return the claims about three paths, with three sampling seeds."""
    rows = {
        path_name: [
            [
                sample_metrics(pictures, path_name, 0, calls, sampling_seed=sampling_seed)[0]
                for sampling_seed in range(3)
            ]
            for calls in CALLS
        ]
        for path_name in PATHS
    }
    means = {path_name: [statistics.fmean(row) for row in fds] for path_name, fds in rows.items()}
    words = "; ".join(f"{path_name} {', '.join(mean_of(row, 3) for row in fds)}" for path_name, fds in rows.items())
    ratios = [a / b for a, b in zip(rows["metric"][1], rows["mask"][1], strict=True)]
    holds = means["metric"][0] <= 0.5 and means["metric"][1] <= 0.35
    holds &= max(means["mask"][1], means["uniform"][1]) <= 0.55
    ours = f"FD-cnn after 8, 32 calls, {pictures.count:,} samples: {words}"
    return [
        Claim(QUALITY, criterion, ours, "1 training seed, 3 sampling seeds", verdict(holds)),
        Claim(
            BETTER,
            "better FID on CIFAR-10",
            f"FD-cnn after 32 calls {mean_of(rows['metric'][1], 3)} against {mean_of(rows['mask'][1], 3)}",
            f"1 training seed; {spread_of(ratios)} of metric over mask, sampling alone",
            verdict(max(ratios) < 1),
        ),
    ]
