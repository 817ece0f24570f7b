"""Tensor maps: how the copy engine of sm_90 walks a tensor, made at launch from a bundle's recipes (docs/abi.md)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAP_BYTES = 128
"""Of an encoded tensor map; it is aligned to 64."""

_ITEM, _PANEL = 2, 64
_TYPES = {"f16": 6, "bf16": 9}  # CU_TENSOR_MAP_DATA_TYPE_FLOAT16, _BFLOAT16
_SWIZZLE_128, _PROMOTE_256 = 3, 3  # CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B


@dataclass(frozen=True)
class TensorMap:
    """What cuTensorMapEncodeTiled takes, innermost dimension first: 16-bit elements, 128-byte swizzle, zeros outside.

    `strides` are in bytes, of all dimensions but the innermost.
    """

    pointer: int
    dtype: str
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]

    @staticmethod
    def make(x: Any, step: int, rows: int) -> TensorMap | None:
        """The map of boxes of `rows` rows, `step` apart, of a view ``[B, H, N, D]``; None where a map cannot be.

        With a step the rows are (residue, quotient), of whole quotients only. An axis that a stride of 0 repeats has
        size 1.
        """
        b, h, n, d = x.shape
        sb, sh, sn, sd = (s * _ITEM for s in x.strides)
        if x.dtype not in _TYPES or min(x.shape) < 1 or (d > 1 and sd != _ITEM) or x.pointer % 16:
            return None
        row = -(-d * _ITEM // 16) * 16
        dims, strides = [d], []

        def axis(count: int, stride: int, repeats: bool) -> bool:
            alone = count == 1 or (repeats and stride == 0)
            dims.append(1 if alone else count)
            strides.append(row if alone else stride)
            return alone or (stride % 16 == 0 and 0 < stride < 1 << 40)

        if step == 1:
            box: tuple[int, ...] = (_PANEL, rows, 1, 1)
            fits = axis(n, sn, False)
        else:
            box = (_PANEL, 1, rows, 1, 1)
            fits = axis(min(n, step), sn, False) and axis(max(n // step, 1), sn * step, False)
        fits = fits and axis(h, sh, True) and axis(b, sb, True)
        return TensorMap(x.pointer, x.dtype, tuple(dims), tuple(strides), box) if fits else None

    def encode(self, library: Any, into: int) -> int:
        """Has the driver write the map to an address, aligned to 64; returns the driver's code."""
        rank = len(self.dims)
        return int(
            library.cuTensorMapEncodeTiled(
                ctypes.c_void_p(into), ctypes.c_int(_TYPES[self.dtype]), ctypes.c_uint32(rank),
                ctypes.c_void_p(self.pointer), (ctypes.c_uint64 * rank)(*self.dims),
                (ctypes.c_uint64 * (rank - 1))(*self.strides), (ctypes.c_uint32 * rank)(*self.box),
                (ctypes.c_uint32 * rank)(*[1] * rank), ctypes.c_int(0), ctypes.c_int(_SWIZZLE_128),
                ctypes.c_int(_PROMOTE_256), ctypes.c_int(0),
            )
        )  # fmt: skip


def encoded(maps: Sequence[TensorMap], library: Any) -> tuple[Any, int] | None:
    """Memory with the maps one after another, and the address of the first; None where the driver refuses one.

    Drivers before 12.0 refuse all: they lack the function.
    """
    if not hasattr(library, "cuTensorMapEncodeTiled"):
        return None
    memory = ctypes.create_string_buffer(len(maps) * MAP_BYTES + 64)
    first = (ctypes.addressof(memory) + 63) // 64 * 64
    for n, one in enumerate(maps):
        if one.encode(library, first + n * MAP_BYTES):
            return None
    return memory, first
