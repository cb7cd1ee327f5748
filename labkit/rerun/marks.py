"""The two marks that let outputs be compared strictly: ``≈`` and ``†`` (which was once a clock, and may still be one).

``≈`` before a number: it may move by 3 units of its last printed digit between machines. ``†`` before a number, or
before the name of a precision: only this machine has it, any other one will do. Every other character of an output is
compared exactly.
"""

import re
from decimal import Decimal

TOLERANCE_UNITS = 3
_HOLE = "\0"  # stands for a digit that may change; no output contains it
_MOVABLE = re.compile(r"≈ *(-?\d[\d,]*(?:\.\d+)?)")
_LOCAL = re.compile(r"[†⏱] *-?\d[\w.+,-]*")
_LOCAL_PRECISION = re.compile(r"[†⏱](?:float32|bfloat16|emulated bfloat16)\b")


def equal_up_to_marks(stored: str, fresh: str) -> bool:
    """Whether two outputs say the same, given their marks. The field after ``≈`` must keep its width."""
    return difference(stored, fresh) is None


def difference(stored: str, fresh: str) -> str | None:
    """What differs beyond the marks, in words, or None."""
    rigid = [_rigid(stored), _rigid(fresh)]
    if rigid[0] != rigid[1]:
        for old, new in zip(*(text.splitlines() for text in rigid), strict=False):
            if old != new:
                return f"line {old.replace(_HOLE, '#')!r} is now {new.replace(_HOLE, '#')!r}"
        return f"{len(rigid[0].splitlines())} lines are now {len(rigid[1].splitlines())}"
    for old, new in zip(_MOVABLE.findall(stored), _MOVABLE.findall(fresh), strict=True):
        first, second = Decimal(old.replace(",", "")), Decimal(new.replace(",", ""))
        if first.as_tuple().exponent != second.as_tuple().exponent:
            return f"≈{old} is now ≈{new}, with other digits"
        unit = Decimal(1).scaleb(int(first.as_tuple().exponent))
        if abs(first - second) > TOLERANCE_UNITS * unit:
            return f"≈{old} is now ≈{new}, more than {TOLERANCE_UNITS * unit} away"
    return None


def _rigid(text: str) -> str:
    """The text with a hole for each number or precision that may differ."""
    text = _MOVABLE.sub(lambda field: "≈" + _HOLE * (len(field[0]) - 1), text)
    return _LOCAL_PRECISION.sub(f"†{_HOLE}{_HOLE}", _LOCAL.sub(f"†{_HOLE}", text))
