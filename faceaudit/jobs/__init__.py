"""Scheduled runs: predict what is new, report, check; what is left to a scheduler is when.

``job`` reads the file, ``steps`` lists what a job can do, ``run`` does it and ``history`` keeps a
line of each run. ``purge`` deletes what must not be kept.
"""

from faceaudit.jobs.job import STARTER
from faceaudit.jobs.purge import Purge, purge
from faceaudit.jobs.run import JobRun, StepRun, run, summary, tell

__all__ = ["STARTER", "JobRun", "Purge", "StepRun", "purge", "run", "summary", "tell"]
