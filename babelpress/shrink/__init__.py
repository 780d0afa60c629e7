"""What of a model can be taken out whole. The folder is the registry: `shrink/ffn.py` is `ffn`.

A structure is a module with

    UNITS = "neurons"               what a user counts of it
    def find(name, walk, asked)     what stays; raises BadModel where a config has no number for it,
                                    BadSetting for a size that cannot be had

`ffn` and `heads` are widths: they find where the units of every block are (`Width`), and
`resize(text, width)` puts the new number into a config. `blocks` chooses among blocks, `width`
among the channels that all of them read and add to.

Every block has as many units as any other, for a config has one number for all of them: so
transformers, vLLM and llama.cpp load what is left.
"""

from babelpress.registry import Registry

SCORES = ("energy", "lost")  # what a unit of a width is worth
OVER = ("max", "mean")  # how languages are joined
STRUCTURES = Registry(__name__, __path__, "structure", ("find",))
