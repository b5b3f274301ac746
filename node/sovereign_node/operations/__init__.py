"""The operations of the local API: each checks what the user named, asks a service, and returns JSON."""
