"""Stored formats of a project: what lies inside sealed chunks and heads, as bytes in and bytes out.

* **blob**: one piece of plaintext (a cut of a file, a tree node, a list of blob ids, a catalog of snapshots);
* **container**: the plaintext of a chunk, many blobs laid end to end with a directory and padding;
* **index segment**: which blobs lie in which chunks, one batch of chunks per segment;
* **tree node**: the entries of a folder; **snapshot**: a signed statement that names a root; **head**: the signed,
  mutable pointer of one writer to its newest snapshots and index segments.

Every reader here checks before it believes: lengths before allocation, order and padding before content, and the
keyed blob id after decompression.
"""
