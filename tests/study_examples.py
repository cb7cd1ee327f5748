"""Points and records for tests of labkit.study: any that are allowed."""

import dataclasses

from hypothesis import strategies as st

from labkit.study.criteria import CRITERIA
from labkit.study.points import LAYERS, LEAST_EPOCHS, REPAIRS, SCHEDULES, SCOPES, TRAINED, USUAL_START, WEIGHTS, Point
from labkit.study.records import Record

NOTHING = {"criterion": "none", "scope": "none", "schedule": "none"}
DENSE = {**NOTHING, "target": WEIGHTS}
SMALL = {**NOTHING, "control": "small", "target": 2_000}
TICKET = {"schedule": "rewind", "rewind": 1}
AFTER = {"criterion": "wanda", "scope": "row", "schedule": "after", "start": "dense", "epochs": 0}


@st.composite
def points(draw, schedules=SCHEDULES, most_epochs=200):
    """Any point that is allowed."""
    schedule = draw(st.sampled_from(schedules))
    epochs = draw(st.integers(LEAST_EPOCHS[schedule], most_epochs))
    controls = {"none": ["none", "small"], "rewind": ["none", "shuffled", "reinitialised"]}.get(schedule, ["none"])
    control = draw(st.sampled_from(controls))
    after = schedule == "after"
    starts = [*TRAINED] if after else [USUAL_START, USUAL_START if control == "small" else "16-32-48"]
    start, shift = draw(st.sampled_from(starts)), draw(st.sampled_from([0, 0, 1, 4]))
    dataset = draw(st.sampled_from(["MNIST", "MNIST" if after else "FashionMNIST"]))
    teacher = draw(st.sampled_from(["none", "dense"])) if dataset == "MNIST" else "none"
    weights = {USUAL_START: WEIGHTS, "16-32-48": 30_576, **TRAINED}[start]
    target = st.integers(295 if control == "small" else LAYERS.get(start, 4), weights)
    return Point(
        dataset=dataset,
        seed=draw(st.integers(0, 2**32 - 1)),
        criterion="none" if schedule == "none" else draw(st.sampled_from([*CRITERIA])),
        scope="none" if schedule == "none" else draw(st.sampled_from(SCOPES[1:] if after else SCOPES[1:-1])),
        schedule=schedule,
        target=weights if schedule == "none" and control == "none" else draw(target),
        epochs=epochs,
        augmented=0 if shift or teacher != "none" else draw(st.integers(0, epochs)),
        rewind=draw(st.integers(0, epochs // 2 - 1)) if schedule == "rewind" else 0,
        control=control,
        start=start,
        teacher=teacher,
        shift=shift,
        repair=draw(st.sampled_from(REPAIRS)) if after else "none",
    )


def record(point=None, **changed):
    """A record, of any point and with anything changed."""
    usual = Record(
        point or Point(),
        nonzero=6_000,
        macs=300_000,
        bytes=9_000,
        val_accuracy=0.9912,
        test_accuracy=0.9905,
        dead_layers="",
        dead_channels=3,
        hardware="a processor, 1 thread(s), float32 training",
        torch="2.11.0",
        seconds=81.5,
    )
    return dataclasses.replace(usual, **changed)
