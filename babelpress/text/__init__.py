"""Text by language: where it lies, how languages are mixed, and how it becomes token blocks."""
