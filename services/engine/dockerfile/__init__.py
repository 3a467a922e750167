"""Dockerfile text to typed instructions; nothing here does I/O.

``lines`` (directives, continuation, comments) -> ``parser`` (one :class:`Node` a line) ->
``instructions`` (checked, one dataclass a kind) ; ``words`` expands variables when a step runs.
Follows https://docs.docker.com/reference/dockerfile/ and the texts of buildkit's parser.
"""
