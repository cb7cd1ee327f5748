"""The tasks of notebook 09."""

from collections.abc import Sequence
from dataclasses import dataclass

from labkit.course.answers import kept_answer
from labkit.course.cases import RUNS, fresh_cases, seed_of_check, truth
from labkit.course.evidence import METHODS, Evidence
from labkit.course.students import seed
from labkit.course.task import Task
from labkit.course.verdict import Finding, Unfit, Verdict, in_words

AGAIN = 'method_of returns nothing yet, or "random" for every network: run its cell again after a change'
HINTS = {
    "random": "compare |w|, before pruning, of what was dropped and what was kept, and look for empty channels",
    "local L1": "is there a threshold in each layer, and is it the same one?",
    "global L1": "is there a threshold, and do the layers lose equal shares?",
    "structured L2": "which channels are empty, and which of their norms are the smallest?",
    "structured L1": "the norms of L1 and L2 do not always agree: which one explains all layers?",
    "random structured": "whole channels were pruned: do their norms explain it?",
}


@dataclass(frozen=True)
class _Failure:
    """The answer of a function that raised an error; it is kept as no answer."""

    words: str


def _answers_of(method_of: object) -> dict[str, object]:
    """What a student's function says of twenty fresh networks; each check has others."""
    if not callable(method_of):
        kind = type(method_of).__name__
        raise Unfit(f'method_of is a {kind}; give the function itself: course.check("09-detective", method_of)')
    last = kept_answer("09-detective")
    shown = seed_of_check(seed(), last.get("seed") if isinstance(last, dict) else None)
    answers: list[object] = []
    for case in fresh_cases(shown):
        try:
            answers.append(method_of(case))
        except (Exception, SystemExit) as error:
            answers.append(_Failure(in_words(error)[:160]))
    return {"seed": shown, "answers": answers}


def _remarks_on(answers: Sequence[object]) -> list[str]:
    """The errors of a student's function: each once, with the first network it came for."""
    errors: dict[str, list[int]] = {}
    for place, answer in enumerate(answers, start=1):
        if isinstance(answer, _Failure):
            errors.setdefault(answer.words, []).append(place)
    return [
        f"method_of failed on network {place}: {words}" + (f" (and on {len(others)} more)" if others else "")
        for words, (place, *others) in errors.items()
    ]


def _detective(task: Task, work: object, evidence: Evidence) -> Verdict:
    """The networks are those that the student's function was shown: of the seed that the check kept."""
    kept = work if isinstance(work, dict) else {}
    shown = kept.get("seed")
    if type(shown) is not int or not 0 <= shown < RUNS * 2**32:
        raise Unfit("the answers do not say which networks they belong to")
    verdict, theirs = judge_answers(task, kept.get("answers"), truth(fresh_cases(shown))), shown // RUNS
    odd = f"09: the networks of a student of seed {theirs}; this student's is {evidence.seed}"
    return Verdict(task, verdict.findings, [odd] * (theirs != evidence.seed), _remarks_on(kept["answers"]))


def judge_answers(task: Task, answers: object, methods: Sequence[str]) -> Verdict:
    """Whether each answer names the method; where two explain a network ("A or B"), either is right."""
    if not isinstance(answers, (list, tuple)) or len(answers) != len(methods):
        raise Unfit(f"the answers must be names of methods for {len(methods)} networks")
    names = [_method_named(answer) for answer in answers]
    if all(answer is None for answer in answers) or {*names} == {"random"}:
        return Verdict(task)  # as the function stands in the notebook from the start
    findings = []
    for method in METHODS:
        asked = [place for place, right in enumerate(methods) if method in right.split(" or ")]
        wrong = [place for place in asked if names[place] not in methods[place].split(" or ")]
        hint = _hint_for_method(answers[wrong[0]], wrong[0], method) if wrong else ""
        findings.append(Finding(not wrong, f"{method}: {len(asked) - len(wrong)} of {len(asked)} named", hint))
    return Verdict(task, findings)


def _method_named(answer: object) -> str | None:
    """The method that an answer names, up to case and blanks; None if it is none of them."""
    plain = {"".join(method.casefold().split()): method for method in METHODS}
    return plain.get("".join(answer.casefold().split())) if isinstance(answer, str) else None


def _hint_for_method(answer: object, place: int, right: str) -> str:
    if isinstance(answer, _Failure):
        return f"method_of failed on network {place + 1}: the error is below"
    if answer is None:
        return "method_of returned nothing for one of these: does every path through it end in return?"
    if _method_named(answer) is None:
        words = f"{answer!r:.40}" if isinstance(answer, str) else f"a {type(answer).__name__}"
        return f"method_of returned {words}; the methods are: {', '.join(METHODS)}"
    return HINTS[right]


TITLE = "a function that names the method of 20 networks"
TASKS = (Task("09-detective", TITLE, 6, _detective, _answers_of, bonus=True, again=AGAIN, newest_counts=True),)
