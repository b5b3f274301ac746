"""Measuring uptime: an observer sends a fresh nonce, the provider signs it, the observer signs the same.

Time is cut into *windows* of ten minutes. A window is *observed* if an observer asked in it, and *good* if at least
one authenticated answer came. An observer's signed *report* carries both facts of many windows as two bitmaps.
"""
