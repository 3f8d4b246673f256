"""Train one network on one data set: `tbc train`, `tbc evaluate` and `tbc predict`.

`recipes` has the learning rates and augmentations, `loading` makes batches, `classifier` takes a
step, `settings` describes a run, `run` trains and tests, `trained` opens what it leaves, and
`predict` names the classes of single images. `launching` begins or resumes any run in its folder,
and `callbacks` writes its checkpoints; detectors are trained with both, too.
"""
