"""What crosses a process boundary, and nothing else.

``errors`` kinds · ``messages`` and ``verbs`` (ZeroMQ) · ``task.proto`` (gRPC) · ``shim`` and
``helpers`` (unix sockets with descriptors, through ``fdpass``) · ``oci`` and ``api`` (documents) ·
``paths`` (where the processes meet). Imports no service.
"""
