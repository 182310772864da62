"""Table to tally, tally to everything else: metrics, intervals, disparities, coverage.

``run.audit`` is the whole flow. To add a metric, write a function from counts to values and list
it in ``metrics.METRICS`` (or ``age.AGE_METRICS``), with its reference in the tests.
"""
