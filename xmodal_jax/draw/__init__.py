"""Pictures and pages: heat maps over images, curves, bars, the report of a run.

The lowest floor: numpy arrays and plain values in, pixels or markup out. Nothing here knows a model or a data set.
"""
