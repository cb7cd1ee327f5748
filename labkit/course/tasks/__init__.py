"""The graded tasks: one file for each notebook, named ``t`` and the notebook's name, whose ``TASKS`` are read here."""
