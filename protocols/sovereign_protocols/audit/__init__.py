"""Proof of storage: an auditor names a chunk, the provider proves that it holds it, both sign.

A *challenge* asks for a keyed hash of a whole chunk, or for one 4 KiB *leaf* of it with its path to the Merkle
root. An *answer* is signed even if it says that the chunk is missing, so a failed audit is evidence and not an
opinion. A *verdict* is the auditor's signature under what follows.
"""
