"""What was predicted and what was claimed, beside what is.

Used by the notebooks' prediction and check cells. Knows no network; it never raises because of what it checks.
"""

import math
from collections.abc import Callable
from typing import Any

Claim = tuple[str, Callable[[], bool], str]


def show_prediction(prediction: Any, measured: float, what: str, digits: int = 3, *, exact: bool = False) -> None:
    """Print a prediction and the measurement side by side.

    Args:
        prediction: what the reader wrote before the cell was run; None if nothing.
        measured: the measured number.
        what: its name and unit.
        digits: decimals to print, for a number that may move by 3 units of the last one elsewhere.
        exact: the measured number does not move, so it carries no mark.
    """
    if math.prod(getattr(prediction, "shape", [0])) == 1:  # torch's and NumPy's numbers
        prediction = prediction.item()
    given = "– (not attempted)"
    if isinstance(prediction, (int, float)) and not isinstance(prediction, bool):
        given = f"{prediction:.{digits}f}"
    elif prediction is not None:
        given = f"{prediction!r} (not a number)"
    print(f"{what}\n  predicted  {given}\n  measured   {'' if exact else '≈'}{measured:.{digits}f}")


def check_claims(*claims: Claim) -> None:
    """Print ✓ or ✗ for each claim of a notebook, with the reason to look for where it does not hold.

    Args:
        claims: (the claim, a function without arguments that tells whether it holds, where to look if not). An error
            in the function counts as ✗ and is named.
    """
    for claim, holds, reason in claims:
        try:
            result = holds()
            verdict, why = bool(result) and result == result, reason  # NaN is no yes
        except Exception as error:  # a missing variable or a half-run notebook: say so, and go on
            verdict, why = False, f"{type(error).__name__}: {error}"
        print(f"✓ {claim}" if verdict else f"✗ {claim}\n  {why}")
