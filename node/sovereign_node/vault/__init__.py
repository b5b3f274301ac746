"""The vault: everything that happens to a project's data between the file system and the providers."""
