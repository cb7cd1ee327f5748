"""What a stranger wrote: shown harmlessly, or refused with a reason."""

import re
import unicodedata

MEGABYTE = 2**20
# Direction marks and what has no width; joiners stay within emoji and scripts that write with them.
HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
JOINER = re.compile("(?<![^\0-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\0-\x7f])")
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Refused(ValueError):
    """A file that is not read, with the reason."""


def shown(text: str, most: int = 80) -> str:
    """Text of a stranger, on one line, with blanks of every kind plain, and control and direction characters spelt."""
    spelt = []
    for place, character in enumerate(text[:most]):
        kind = unicodedata.category(character)
        plain = not kind.startswith(("C", "Z")) or (character in "\u200c\u200d" and not JOINER.match(text, place))
        spelt.append(" " if kind == "Zs" else character if plain else f"<U+{ord(character):04X}>")
    return "".join(spelt) + ("…" if len(text) > most else "")


def visible(text: str) -> str:
    """Text of a stranger on its own lines: direction marks and what has no width left out, control characters spelt."""
    text = JOINER.sub("", HIDDEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    return CONTROL.sub(lambda character: f"<U+{ord(character[0]):04X}>", text)


def unreadable(error: Exception) -> str:
    """Why a file is refused whose reader raised what nobody can foresee."""
    return f"cannot be read ({type(error).__name__}: {shown(str(error))})"
