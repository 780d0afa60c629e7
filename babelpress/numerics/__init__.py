"""Numbers without a model and without text: products, least squares, patterns, grids, tallies."""
