"""Training: one loop, on fixed blocks."""
