"""Requests under way on one stream, and the tasks that carry them."""
