"""Scores, sinks, segments, dots, normalizers, offsets: the CPU kernels' tests, on the GPU kernels' PTX."""

from test_kernels_features import *  # noqa: F403
