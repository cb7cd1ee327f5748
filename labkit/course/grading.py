"""One submission, graded from its artefacts: no student code is run.

Points come from the same judges as the check cells. What a submission says of itself is compared with what its networks
are; a contradiction is a flag, a question for the instructor, and never costs a point.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course.answers import fingerprint
from labkit.course.cases import digits, references
from labkit.course.copies import copied, origins, sketches_of
from labkit.course.evidence import Evidence, Weights, dense_weights, name_method, read_pruning
from labkit.course.judging import USEFUL, is_number
from labkit.course.result import GradedTask, MeasuredNetwork, Result
from labkit.course.students import seed_of
from labkit.course.submission import Submission
from labkit.course.submission.foreign import Refused, shown
from labkit.course.task import NETWORKS, TASKS
from labkit.course.verdict import Finding, Unfit, Verdict, no_points
from labkit.course.written import read_written
from labkit.sparsity import clone, effective_weight, prunable_layers, sparsity

SCREEN, ALL_IMAGES = 2_000, 10_000
IN_FAVOUR = 0.01  # the check cell looked at other images: what reached a level there may be a little below it here
# A claimed test accuracy may differ by this from a recomputed one: other processors, and a printed digit.
CLAIM_TOLERANCE = 0.0015
Claim = tuple[float | None, float, float]  # sparsity and accuracy that a notebook printed, and half of its last digit
CLAIM = re.compile(
    r"^(CNN_MNIST\w{0,12}): (?:sparsity +(\d{1,3}\.\d{2})%, )?test accuracy ≈(\d\.\d{1,6})$", re.MULTILINE
)


def grade(submission: Submission, course: Mapping[str, Any], student: str = "") -> Result:
    """Everything that can be said about a submission.

    Args:
        submission: what was handed in.
        course: ``course.json`` of the release that was handed out.
        student: who handed it in, if the learning platform says so; else the submission is asked.
    """
    worked = submission.student or student  # a pair's zip is handed in by one of the two
    student = student or submission.student
    reading = _Reading(submission.networks, seed_of(worked, course["salt"]) if worked else 0)
    verdicts = {name: _verdict(name, submission, reading) for name in TASKS}
    notebooks = {name: submission.notebooks[name] for name in course["notebooks"] if name in submission.notebooks}
    version = str(course["version"])
    written = {name: read_written(notebook, course["notebooks"][name], version) for name, notebook in notebooks.items()}
    claims = _claims(notebooks)
    rows = {name: reading.row(name, claims.get(name)) for name in submission.networks}
    flags = [f"handed in by {student}, but worked on by {worked}"] if worked != student else []
    flags += _refusals(submission, (f"{name}.pth" for name in NETWORKS))
    flags += [flag for verdict in verdicts.values() for flag in verdict.flags]
    for name in course["notebooks"]:
        flags += _refusals(submission, [f"{name}.ipynb"])
        flags += [f"{name}: {flag}" for flag in written[name][1]] if name in written else []
    if "CNN_MNIST" in submission.networks:
        flags += _about_the_seed(submission.seed, reading.seed, verdicts["01-training"])
    flags += [flag for name in rows for flag in _contradictions(name, rows[name], claims.get(name))]
    flags += [*reading.forged(), *copied(reading.origins), *submission.flags]
    return Result(
        student=student,
        worked=worked,
        refused={name: shown(why, 200) for name, why in submission.refused.items()},
        tasks={name: _graded(verdict) for name, verdict in verdicts.items()},
        points=sum(verdict.points for verdict in verdicts.values() if not verdict.task.bonus),
        bonus=sum(verdict.points for verdict in verdicts.values() if verdict.task.bonus),
        networks=rows,
        predictions={name[:2]: _prediction(name, submission) for name in TASKS if name.endswith("-prediction")},
        answers={question: answer for answers, _ in written.values() for question, answer in answers.items()},
        notebooks={name: _state(name, submission) for name in course["notebooks"]},
        flags=tuple(dict.fromkeys(shown(flag, 300) for flag in flags)),
    )


def _refusals(submission: Submission, bases: Iterable[str]) -> list[str]:
    return [f"{base} was refused: it {submission.refused[base]}" for base in bases if base in submission.refused]


def _state(notebook: str, submission: Submission) -> str:
    if notebook in submission.notebooks:
        return "read"
    return "refused" if f"{notebook}.ipynb" in submission.refused else "missing"


# Networks


@torch.no_grad()
def _accuracy(network: CNN, images: int) -> float:
    """On so many real test images, without labkit's progress bar."""
    network.eval()
    # Every fifth image: the file's first half is easier than its second.
    loader = digits(0, ALL_IMAGES // images, train=False)
    return sum(int((network(X).argmax(dim=1) == y).sum()) for X, y in loader) / images


class _Reading:
    """The networks of one submission, and what has been measured of them so far."""

    def __init__(self, networks: Mapping[str, CNN], seed: int) -> None:
        self.networks, self.seed = networks, seed
        self.measured: dict[str, tuple[float, int]] = {}
        self.dense: dict[str, Weights] = {name: dense_weights(network) for name, network in networks.items()}
        own = {"CNN_MNIST": self.dense["CNN_MNIST"]} if "CNN_MNIST" in networks else {}
        self.origins = origins(networks)
        self.candidates: dict[str, Weights] = own | references()
        self.prunings = {name: read_pruning(network, self.candidates) for name, network in networks.items()}

    def accuracy(self, name: str, claimed: float | None = None) -> float:
        """On the screen of 2,000 test images; on all 10,000 where that might decide something."""
        if name not in self.measured:
            self.measured[name] = _accuracy(self.networks[name], SCREEN), SCREEN
        score, images = self.measured[name]
        # Half the width of an estimate from 2,000 of 10,000 images: three standard deviations.
        width = 3 * math.sqrt(max(score * (1 - score), 1e-3) / SCREEN * (1 - SCREEN / ALL_IMAGES))
        doubtful = claimed is not None and abs(score - claimed) > width
        near = any(abs(score + IN_FAVOUR - level) <= width for level in NETWORKS[name].levels)
        if images == SCREEN and (doubtful or near):
            score = _accuracy(self.networks[name], ALL_IMAGES)
            self.measured[name] = score, ALL_IMAGES
        return score

    def row(self, name: str, claim: Claim | None) -> MeasuredNetwork:
        """What a network is, measured, compared with what the notebook said."""
        network, pruned = self.networks[name], self.prunings[name]
        method = name_method(pruned) if NETWORKS[name].untrained else ""
        return MeasuredNetwork(
            sparsity=sparsity(network, NETWORKS[name].layers),
            accuracy=self.accuracy(name, claim[1] if claim else None),
            images=self.measured[name][1],
            claimed_sparsity=claim[0] if claim else None,
            claimed_accuracy=claim[1] if claim else None,
            method=method,
            layers={x: float((effective_weight(y) == 0).float().mean()) for x, y in prunable_layers(network).items()},
            sketches=sketches_of(name, network, pruned, method, known=bool({name, pruned.origin} & {*self.origins})),
        )

    def before(self, base: str) -> Weights | None:
        """The network that an answer belongs to, by its fingerprint; None if it is none of those that are known."""
        known = {**self.candidates, **{name: self.dense[name] for name in self.dense if NETWORKS[name].untrained}}
        return next((weights for weights in known.values() if fingerprint(weights) == base), None)

    def forged(self) -> list[str]:
        """Networks whose weights, without the masks, recognise no digits: they were never trained."""
        flags = []
        for name, network in self.networks.items():
            pruned = self.prunings[name]
            # One that was made from a known network is measured anyway; and some are not to be known.
            if NETWORKS[name].untrained and not pruned.origin and pruned.before is not None:
                bare = clone(network)
                for layer in prunable_layers(bare).values():
                    getattr(layer, "weight_mask", torch.ones(1)).fill_(1)
                if _accuracy(bare, SCREEN) < USEFUL:
                    flags.append(f"{name}: its weights know no digits even without the mask; were they ever trained?")
        return flags


# Points


def _verdict(name: str, submission: Submission, reading: _Reading) -> Verdict:
    task = TASKS[name]
    try:
        if why := submission.refused.get(f"{task.network or name}.pth"):
            raise Refused(f"{task.network}.pth was not read: it {why}" if task.network else why)
        if task.network in reading.networks:
            known, seed = (reading.candidates, None, references()), reading.seed
            evidence = Evidence(*known, lambda _: reading.accuracy(task.network) + IN_FAVOUR, seed)
            return task.judge(reading.networks[task.network], evidence)
        if name in submission.answers:
            value, base = submission.answers[name]
            return task.judge(value, Evidence(before=reading.before(base), seed=reading.seed))
        return Verdict(task)
    except (Unfit, Refused) as error:
        return no_points(task, task.title, shown(str(error), 200))


def _graded(verdict: Verdict) -> GradedTask:
    findings = (Finding(f.holds, shown(f.text, 300), shown(f.hint, 300), f.points) for f in verdict.findings)
    return GradedTask(verdict.points, verdict.task.points, verdict.attempted, tuple(findings))


def _prediction(task: str, submission: Submission) -> float | None:
    value = submission.answers[task].value if task in submission.answers else None
    return float(value) if is_number(value) and abs(value) < 1e15 else None


# Flags


def _about_the_seed(claimed: Any, seed: int, verdict: Verdict) -> list[str]:
    if not verdict.attempted:
        return ["CNN_MNIST is untrained: the work does not start from the student's own training"]
    if type(claimed) is int and claimed == seed:
        return []
    # Only these kinds: small nested tuples can be endless when spelt out.
    plain = claimed is None or isinstance(claimed, (int, float, str))
    said = shown(str(claimed), 20) if plain else f"a {type(claimed).__name__}"
    return [f"CNN_MNIST says that it was trained with seed {said}; this student's is {seed}"]


def _contradictions(name: str, row: MeasuredNetwork, claim: Claim | None) -> list[str]:
    if claim is None:
        return []
    flags = []
    if claim[0] is not None and abs(claim[0] - row.sparsity) > 0.0001:
        flags.append(f"{name}: the notebook says {claim[0]:.2%} sparsity, the file has {row.sparsity:.2%}")
    if row.images == ALL_IMAGES and abs(claim[1] - row.accuracy) > CLAIM_TOLERANCE + claim[2]:
        flags.append(f"{name}: the notebook says {claim[1]:.4f} test accuracy, the file reaches {row.accuracy:.4f}")
    return flags


def _claims(notebooks: Mapping[str, Any]) -> dict[str, Claim]:
    """Network -> what the notebooks' outputs say of it."""
    claims: dict[str, Claim] = {}
    outputs = (cell["output"] for notebook in notebooks.values() for cell in notebook["cells"])
    for network, share, score in itertools.chain.from_iterable(map(CLAIM.findall, outputs)):
        if network in NETWORKS:
            half = 0.5 * 10.0 ** -len(score.partition(".")[2])  # what printing rounds away
            claims[network] = (float(share) / 100 if share else None), float(score), half
    return claims
