"""What a stranger wrote: shown harmlessly, or refused with a reason."""

import unicodedata

MEGABYTE = 2**20


class Refused(ValueError):
    """A file that is not read, with the reason."""


def shown(text: str, most: int = 80) -> str:
    """Text of a stranger, on one line, with control and direction characters spelt out."""
    spelt = []
    for character in text[:most]:
        plain = character == " " or not unicodedata.category(character).startswith(("C", "Z"))
        spelt.append(character if plain else f"<U+{ord(character):04X}>")
    return "".join(spelt) + ("…" if len(text) > most else "")


def unreadable(error: Exception) -> str:
    """Why a file is refused whose reader raised what nobody can foresee."""
    return f"can not be read ({type(error).__name__}: {shown(str(error))})"
