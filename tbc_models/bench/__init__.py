"""Measure speed: `tbc bench`.

Candidates take turns within one run. `timing` has the clock, `layers`, `blocks`, `networks` and
`reference` what is timed, `tune` learns the table of algorithms, and `plots` shows the results.
"""
