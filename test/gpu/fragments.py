"""Which thread holds which element: the PTX manual's fragment layouts, as definitions.

PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type", "... mma.m16n8k8", "ldmatrix". groupID is
lane >> 2, threadID_in_group is lane % 4.
"""

from __future__ import annotations

import numpy as np

LANE = np.arange(32)
GROUP, THREAD = LANE >> 2, LANE % 4


def _accumulator() -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of c0..c3: row groupID for i < 2, else groupID + 8; column threadID * 2 + (i & 1)."""
    i = np.arange(4)
    row = np.where(i < 2, GROUP[:, None], GROUP[:, None] + 8)
    return row, THREAD[:, None] * 2 + (i & 1)


def _a16() -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of a0..a7 of m16n8k16: rows groupID for i in 0, 1, 4, 5; columns + 8 for i >= 4."""
    i = np.arange(8)
    row = np.where((i < 2) | ((i >= 4) & (i < 6)), GROUP[:, None], GROUP[:, None] + 8)
    return row, THREAD[:, None] * 2 + (i & 1) + np.where(i >= 4, 8, 0)


def _b16() -> tuple[np.ndarray, np.ndarray]:
    """(row k, column n) of b0..b3 of m16n8k16."""
    i = np.arange(4)
    return THREAD[:, None] * 2 + (i & 1) + np.where(i >= 2, 8, 0), np.broadcast_to(GROUP[:, None], (32, 4))


def _a8() -> tuple[np.ndarray, np.ndarray]:
    """(row, column) of a0..a3 of m16n8k8 in TF32: row groupID for a0, a2; column threadID, + 4 for a2, a3."""
    i = np.arange(4)
    return np.where(i % 2 == 0, GROUP[:, None], GROUP[:, None] + 8), THREAD[:, None] + np.where(i < 2, 0, 4)


def _b8() -> tuple[np.ndarray, np.ndarray]:
    """(row k, column n) of b0, b1 of m16n8k8 in TF32."""
    i = np.arange(2)
    return THREAD[:, None] + 4 * i, np.broadcast_to(GROUP[:, None], (32, 2))


ACCUMULATOR, A16, B16, A8, B8 = _accumulator(), _a16(), _b16(), _a8(), _b8()


def unpack(registers: np.ndarray, kind: str) -> np.ndarray:
    """``[..., registers]`` of 32 bits as float64 elements, the low half of a register first."""
    registers = np.ascontiguousarray(registers)
    if kind == "tf32":
        return (registers & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    halves = registers.view(np.uint16)
    if kind == "f16":
        return halves.view(np.float16).astype(np.float64)
    return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def mma(shape: str, kind: str, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """D = A B + C of whole warps: ``[warps, 32, registers]`` in and out, products exact, one rounding to f32."""
    depth = {"m16n8k16": 16, "m16n8k8": 8}[shape]
    where_a, where_b = (A16, B16) if depth == 16 else (A8, B8)
    warps = a.shape[0]
    full_a, full_b = np.zeros((warps, 16, depth)), np.zeros((warps, depth, 8))
    full_a[:, where_a[0], where_a[1]] = unpack(a, kind)
    full_b[:, where_b[0], where_b[1]] = unpack(b, kind)
    full_c = np.zeros((warps, 16, 8))
    full_c[:, ACCUMULATOR[0], ACCUMULATOR[1]] = c
    if np.isfinite(full_a).all() and np.isfinite(full_b).all():
        d = full_a @ full_b + full_c
    else:
        d = (full_a[:, :, :, None] * full_b[:, None, :, :]).sum(2) + full_c
    return d[:, ACCUMULATOR[0], ACCUMULATOR[1]].astype(np.float32)


def ldmatrix(matrix: np.ndarray, transposed: bool) -> np.ndarray:
    """Register of each lane from 8x8 matrices ``[warps, 8, 8]`` of 16-bit elements: row groupID, two columns."""
    if transposed:
        matrix = np.swapaxes(matrix, 1, 2)
    low, high = matrix[:, GROUP, 2 * THREAD], matrix[:, GROUP, 2 * THREAD + 1]
    return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))
