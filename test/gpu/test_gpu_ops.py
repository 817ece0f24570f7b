"""Ops on whole tensors: the CPU kernels' tests, on the GPU kernels' PTX."""

from test_api_ops import *  # noqa: F403

# What these test is the package's, not the kernels'.
del test_errors, test_errors_say_what_is_wrong, test_lengths_do_not_recompile, test_numpy_and_out  # noqa: F821
