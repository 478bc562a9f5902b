"""Timings against the peers, as ratios of interleaved runs; never tests, never in the wheel.

`python -m benchmarks` runs all of them, `python -m benchmarks.receive --case ct-1` one case;
README.md says how to read what comes out.
"""
