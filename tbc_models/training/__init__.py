"""Train one network on one data set: `tbc train`, `tbc evaluate` and `tbc predict`.

`recipes` has the learning rates and augmentations, `loading` makes batches, `classifier` takes a
step, `callbacks` writes checkpoints, `settings` describes a run, `run` trains and tests, and
`predict` names the classes of single images.
"""
