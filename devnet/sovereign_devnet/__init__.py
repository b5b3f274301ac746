"""Sovereign: devnet."""
