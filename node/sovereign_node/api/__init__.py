"""The local API: how commands and the dashboard talk to the running node, on loopback only."""
