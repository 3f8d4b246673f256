"""Measure speed: `tbc bench`.

Candidates take turns within one run. `timing` has the clock; `layers`, `blocks`, `networks`,
`calls` and `reference` time different things; `tune` learns the table of algorithms, and `plots`
shows results.
"""
