"""Training: one loop, on fixed blocks."""

# Which loss on text held apart is watched: of the worst language, or the mean of all.
WORST, MEAN = WATCHED = ("worst", "mean")
