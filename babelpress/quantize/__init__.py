"""Quantization methods. The folder is the registry: `quantize/gptq.py` is the method `gptq`.

A method is a module with one function, and constants and a second function where it has them:

    def quantize(weight_OI, stats, grid, keep_OI, *, option=default, ...) -> Codes
    def scale_inputs(weight_OI, stats, grid, *, option=default, ...) -> scale_I
                        inputs are to be divided by this in the layer before, and weights
                        multiplied by it, before `quantize` sees them
    READS, ADAPTS, ONLY_WITH, PAPER, DIFFERS  as in prune/

The rows of all linears of a site come at once; every row has its own grid, so they stay apart.
`keep_OI` is False where the code must stand for exactly zero. A method is pure: it touches neither
its arguments nor the disk. The keyword arguments of both functions are the method's options; the
command line and recipes read them from the signatures.

Shapes: O outputs, I inputs of one site.
"""

from babelpress.registry import Registry

QUANTIZERS = Registry(__name__, __path__, "quantization method", ("quantize", "scale_inputs"))
