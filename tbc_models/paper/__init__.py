"""The paper's numbers, and ours beside them.

`reported` has the paper's six tables as printed, `rows` the network behind each row and the reasons
for differences, and `tables` our counts beside the paper's.
"""
