"""The market in a hurry: real nodes in one process, with a clock that runs faster than the sun.

One megabyte stands for one gigabyte: prices are a thousand times the list prices, so that a customer with 5 MB pays
what one with 5 GB would. Only the clock and the cheats are arranged; every figure comes from the nodes.
"""
