"""The names of ``labkit.course.submission`` under which older modules know them."""

from labkit.course.submission import Submission, read_submission, submission_of
from labkit.course.submission.archive import BOUNDED, MOST_BYTES, Files, read_files
from labkit.course.submission.foreign import MEGABYTE, Refused, shown
from labkit.course.submission.identity import packed_of, student_of
from labkit.course.submission.network import read_answer, read_network
from labkit.course.submission.notebook import read_notebook, text_of
from labkit.course.submission.tensors import read_tensors

__all__ = [
    "BOUNDED",
    "MEGABYTE",
    "MOST_BYTES",
    "Files",
    "Refused",
    "Submission",
    "packed_of",
    "read_answer",
    "read_files",
    "read_network",
    "read_notebook",
    "read_submission",
    "read_tensors",
    "shown",
    "student_of",
    "submission_of",
    "text_of",
]
