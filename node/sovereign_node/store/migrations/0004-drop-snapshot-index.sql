-- No query of the node looks entries up by snapshot, and the index doubled the cost of a first backup's entries.
DROP INDEX content_index_snapshot;
