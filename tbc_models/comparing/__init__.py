"""Compare networks fairly: `tbc compare`.

`networks` makes SC, GC, TBC and TGC equal in parameters or MACs, `runs` trains each over several
seeds, `statistics` has intervals and paired tests, and `plots` shows the result.
"""
