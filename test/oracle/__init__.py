"""The independent judge: every pattern and every result, pair by pair in double precision.

Written from the formulas of the design alone. Nothing in this package imports
``heddle`` or shares code with it, so that a mistake cannot agree with itself.
"""
