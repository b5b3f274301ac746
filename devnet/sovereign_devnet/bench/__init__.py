"""Benchmarks: speed as ratios to floors and peers measured in the same run.

Each benchmark is a module with a function that returns a JSON-able dict, and can be run by itself.
"""
