"""The helpers, one file per entry point; named in :data:`reexec.registry.HELPERS`."""
