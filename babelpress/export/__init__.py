"""Export formats. The folder is the registry: `export/compressed_tensors.py` is the format
`compressed-tensors`; what begins with an underscore is none.

A format is a module with one function:

    def write(source, folder, *, option=default, ...) -> list[str]

It fills an empty folder and gives the lines to tell the user. The folder is the caller's: it is
renamed into place when `write` returns and removed when it raises. Writing twice gives the same
bytes. The keyword arguments are the format's options; the command line reads them from the
signature.
"""

from babelpress.registry import Registry

FORMATS = Registry(__name__, __path__, "export format", ("write",), between="-")
