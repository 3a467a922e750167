"""Containers: their definition and state, and everything that is done with them.

``model``, ``registry``, ``transitions`` what a container is · ``services`` what the operations share

Made: ``create`` (order and undo) with ``validate/`` (one subject per file), ``host_defaults``,
``image_config``, ``endpoints``, ``links``, ``names``, ``ids``, ``mount_parse``/``mount_check``/
``mount_modes`` and ``volumes_create`` · changed by ``rename`` and ``update``

Described to the runtime: ``spec`` from ``spec_*``, ``security``, ``capabilities``; ``mounts`` from
``mounts_default`` and ``mount_sources``; ``etc`` files

Run: ``start``, ``stop``, ``wait``, ``restart``, ``remove``, ``execs``, ``streams``, ``health``,
``networking``; ``monitor`` follows the shims, ``restore`` makes the records true, ``shutdown``

Shown: ``inspect``, ``listing`` with ``filters``, ``status_text`` and ``show``; ``top``, ``stats``;
``archive`` and ``commit`` for their files

``verbs`` and ``lifecycle_verbs`` register all of it.
"""
