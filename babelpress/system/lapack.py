"""Triangular factors in place, by SciPy's LAPACK, while other threads go on.

SciPy's own wrappers keep Python's lock for as long as they work: nothing else of the process moves
then, not even who watches its memory. What SciPy gives to Cython is called here by its address,
which frees the lock.

Shapes: N rows and columns.
"""

import ctypes
import re
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

# Imported with this module: whoever limits the threads of BLAS has to find it.
_LAPACK: Any = getattr(import_module("scipy.linalg.cython_lapack"), "__pyx_capi__", {})
_NAMES = ("dpotrf", "dtrtri")
_ARGUMENTS = r"\((?:char \*, )+int \*, \w+ \*, int \*, int \*\)"  # what follows is called with


def factor(matrix_NN: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """A matrix, in whose lower triangle is its Cholesky factor then; False where there is none."""
    return _call("dpotrf", matrix_NN, b"U") == 0


def invert(lower_NN: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """A lower triangular matrix, in whose place is its inverse then; False where there is none."""
    return _call("dtrtri", lower_NN, b"U", b"N") == 0


def _call(name: str, matrix_NN: np.ndarray[Any, np.dtype[np.float64]], *how: bytes) -> int:
    """LAPACK's answer. It stores columns first, so that its upper triangle is our lower one."""
    assert matrix_NN.dtype == np.float64 and matrix_NN.flags.c_contiguous
    assert matrix_NN.shape == (len(matrix_NN), len(matrix_NN))
    size, answer = ctypes.c_int(len(matrix_NN)), ctypes.c_int()
    words = [ctypes.c_char(word) for word in how]
    _function(name)(
        *map(ctypes.byref, words),
        ctypes.byref(size),
        ctypes.c_void_p(matrix_NN.ctypes.data),
        ctypes.byref(ctypes.c_int(max(1, len(matrix_NN)))),
        ctypes.byref(answer),
    )
    return answer.value


def reachable() -> bool:
    """Whether this SciPy exports the two functions with the arguments that they are called with."""
    return all(re.fullmatch("void " + _ARGUMENTS, _signature(name)) for name in _NAMES)


def _signature(name: str) -> str:
    """What SciPy says of a function; nothing where it has none."""
    return _api().PyCapsule_GetName(_LAPACK[name]).decode() if name in _LAPACK else ""


@cache
def _function(name: str) -> Any:
    """A function of LAPACK, which must be `reachable`."""
    capsule = _LAPACK[name]
    return ctypes.CFUNCTYPE(None)(
        _api().PyCapsule_GetPointer(capsule, _api().PyCapsule_GetName(capsule))
    )


@cache
def _api() -> Any:
    """Python's own functions that read what SciPy exports."""
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return api
