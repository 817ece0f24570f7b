"""Dots with relative rows: the CPU kernels' tests, on the GPU kernels' PTX."""

from test_kernels_relative import *  # noqa: F403
