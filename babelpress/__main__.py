"""`python -m babelpress` is the command line too, where its script is not on the path.

Tested in tests/test_cli.py.
"""

from babelpress.cli import run

run()
