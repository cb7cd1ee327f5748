"""Notebooks run by a real kernel, and compared with what is stored."""
