"""The paper's numbers: `reported` has its six tables as printed, `tables` sets ours beside them."""
