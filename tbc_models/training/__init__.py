"""Train one network on one data set: `tbc train`.

`recipes` says how, `loading` makes batches, `classifier` takes a step, `callbacks` writes
checkpoints, `settings` describes a run, and `run` trains, fits and evaluates.
"""
