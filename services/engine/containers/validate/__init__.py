"""Checks of a container's configuration, one subject per file, in the order of Docker's engine.

Each check raises ``InvalidParameter`` with Docker's text; some return warnings. None changes
anything but its own argument, where Docker adjusts instead of refusing.
"""
