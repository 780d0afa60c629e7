"""`python -m babelpress` is the command line too, where its script is not on the path."""

from babelpress.cli import run

run()
