"""Sovereign: protocols."""
