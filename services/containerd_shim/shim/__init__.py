"""One container's shim: the process that outlives every service.

``process`` one running program and its streams · ``task`` the container and the task methods ·
``streams`` attach and logs · ``events`` what has happened · ``server`` the shim's socket ·
``main`` the process itself. Single-threaded; imports no gRPC.
"""
