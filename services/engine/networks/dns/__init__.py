"""The embedded DNS server of user-defined networks: 127.0.0.11 inside a container's namespace."""
