"""Compare networks fairly: `tbc compare`.

`networks` makes SC, GC, TBC and TGC equal in parameters or MACs, `times` in measured time. `runs`
trains each over several seeds, `reports` collects the results with intervals and paired tests, and
`plots` and `tables` show them.
"""
