"""Sovereign: node."""
