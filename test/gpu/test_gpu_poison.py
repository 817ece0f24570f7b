"""NaN and inf in dead keys and values: the CPU kernels' tests, on the GPU kernels' PTX."""

from test_kernels_poison import *  # noqa: F403
