"""What comes out of grading: tables for the instructor and the learning platform, figures, and pages for people.

Everything a student wrote is escaped, and cells that a spreadsheet would take for formulas are made harmless.
"""

from labkit.course.csv_file import harmless
from labkit.course.report.marking import read_marking
from labkit.course.report.marks import read_marks
from labkit.course.report.tables import write_all

__all__ = ["harmless", "read_marking", "read_marks", "write_all"]
