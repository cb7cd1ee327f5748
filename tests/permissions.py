"""A folder that this process can read and not write, even if root runs it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def folder_that_closes() -> Iterator[tuple[Path, Callable[[], None]]]:
    """A new folder, which others may read, and a function that takes the right to write it away until the end."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no permissions of this kind here")
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:

        def close() -> None:
            Path(name).chmod(0o555)
            if root:
                os.seteuid(65534)

        try:
            yield Path(name), close
        finally:
            if root:
                os.seteuid(0)
            Path(name).chmod(0o700)
