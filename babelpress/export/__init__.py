"""Export formats. The folder is the registry: `export/compressed_tensors.py` is the format
`compressed-tensors`; what begins with an underscore is none.

A format is a module with a constant and one to three functions:

    SERVES = {"program": "command with {folder} in it", …}
                             what serves the folder, the usual way first; or Python, from an import
    LIBRARY = "transformers" where that library reads the folder
    ENCODERS_ONLY = True     where nothing else can be written
    WEIGHS = True            where moments, and a mixture of their languages, are read
    def write(source, folder, *, option=default, ...) -> list[str]
    def check(opened) -> None
                             raises what `write` would for this model whatever is done to it
    def serves(source) -> tuple[str, ...]
                             the programs of SERVES that suit a model, where not all do

It fills an empty folder and gives the lines to tell the user. The folder is the caller's: it is
renamed into place when `write` returns and removed when it raises. Writing twice gives the same
bytes. Card and terminal show what SERVES says. The keyword arguments are the format's options; the
command line reads them from the signature.
"""

from babelpress.registry import Registry

FORMATS = Registry(__name__, __path__, "export format", ("write",), between="-")
