"""Run-time patterns (ids, lists, lengths): the CPU kernels' tests, on the GPU kernels' PTX."""

from test_kernels_runtime import *  # noqa: F403

del test_packed_sequences_lie_row_after_row  # noqa: F821 (the layout is the package's, not the kernel's)
