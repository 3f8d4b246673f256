"""Check the two implementations against each other on random cases: `tbc check`.

`cases` draws a layer and its numbers, `operators` runs it through `tbc_ref` and `tbc_gpu`, and
`modules` does the same for whole bottlenecks and attention modules. To compare the two
implementations, this package imports both.
"""
