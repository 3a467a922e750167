"""The runc-compatible command line, ``wharfd-runtime``: one module per family of commands."""
