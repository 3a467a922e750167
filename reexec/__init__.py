"""Small programs under names of their own, forked from the zygote or run by hand (moby/sys/reexec).

``registry`` names -> functions · ``call`` what a helper is given · ``stream`` the client's connection ·
``dispatch`` ``basename(argv[0])`` -> function, and the symlinks · ``command`` a process running a
helper · ``helpers/`` one file per entry point. Imports no service but :mod:`services.protocol`.
"""
