"""Sovereign: crypto."""
