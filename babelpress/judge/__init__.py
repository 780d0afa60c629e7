"""Judge what was pressed: scores by language, and comparisons with the dense model."""
