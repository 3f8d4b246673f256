"""Benchmarks, all by ratio: every candidate of a case runs in turn, in the same minute."""
