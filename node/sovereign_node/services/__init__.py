"""What a node does: discovery, contracts, storing for others, backing up, restoring."""
