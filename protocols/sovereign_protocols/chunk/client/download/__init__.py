"""Chunks on their way to one caller."""
