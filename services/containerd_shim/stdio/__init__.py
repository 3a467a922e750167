"""A process's streams: its output to log and clients, the clients' input to it.

``pump`` one process's output and input · ``client`` one attached connection · ``detach`` the keys
that leave a terminal · ``framing`` what is put around output.
"""
