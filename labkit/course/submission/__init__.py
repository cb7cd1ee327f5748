"""What somebody handed in, read once and as data: nothing in it is run, and every size is bounded."""

from labkit.course.submission.reading import Submission, read_submission, submission_of

__all__ = ["Submission", "read_submission", "submission_of"]
