"""The graded tasks: one file a notebook, named ``t`` and the notebook's name, whose ``TASKS`` are read from here."""
