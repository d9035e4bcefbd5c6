"""Measurements: each speed claim of the docs is a row here, beside its floor in the same run."""
