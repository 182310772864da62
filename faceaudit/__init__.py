"""Batch analytics and fairness auditing for models that predict age, gender and race from faces."""

__version__ = "0.1.0"
