"""The series as a course: exercises, checks with reasons, handing in, grading. The core of labkit does not know it."""

from labkit.course.cases import Case, cases
from labkit.course.check import check
from labkit.course.start_page import start
from labkit.course.students import seed, sign_in

__all__ = ["Case", "cases", "check", "seed", "sign_in", "start"]
