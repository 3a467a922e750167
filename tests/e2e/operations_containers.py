"""What is done with containers and volumes while a service is killed in it (``test_crash_points``).

A container that is there before prints counted lines, so that its log shows whether it was ever touched.
"""

from __future__ import annotations

from tests.e2e.operations import Operation

_SLEEP = ("busybox", "sleep", "1000")
_RUNNING = ("run", "-d", "--name", "point", *_SLEEP)
_CREATED = ("create", "--name", "point", *_SLEEP)
_REMOVED = ("rm", "-f", "-v", "point")
_LIVES = ("exec", "point", "true")
#: A file to be copied into a container.
_SOURCE = __file__
_ENDED = ("rm", "-f", "-v", "point", "point2")


def _on_running(name: str, *act: str, then: tuple[tuple[str, ...], ...] = (_LIVES,)) -> Operation:
    return Operation(name, act, prepare=(_RUNNING,), then=then, finish=(_ENDED,))


CONTAINERS = (
    Operation(
        "create-all",
        ("create", "-v", "/data", "-v", "pointvolume:/n", "--mount", "type=volume,src=pointvolume2,dst=/m",
         "-p", "80", "--network", "pointnetwork", "--label", "a=b", "-w", "/made", "--name", "point",
         *_SLEEP),
        prepare=(("network", "create", "pointnetwork"),),
        finish=(_REMOVED, ("volume", "rm", "-f", "pointvolume", "pointvolume2"),
                ("network", "rm", "pointnetwork")),
    ),
    Operation("run-restart", ("run", "-d", "--restart", "always", "-v", "/data", "-p", "80",
                              "--name", "point", *_SLEEP), finish=(_ENDED,)),
    Operation("run-fails", ("run", "-d", "--restart", "on-failure:2", "--name", "point",
                            "busybox", "false"), finish=(_ENDED,)),
    Operation("run-attached", ("run", "--name", "point", "busybox", "echo", "out"), finish=(_ENDED,)),
    Operation("run-refused", ("run", "--rm", "-v", "/data", "--name", "point", "busybox", "/nosuch"),
              finish=(_ENDED,)),
    Operation("run-mounted", ("run", "-d", "--name", "point", "-v", "pointvolume:/v", "-v", "/bin", *_SLEEP),
              prepare=(("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "pointvolume"),),
              finish=(_ENDED, ("volume", "rm", "pointvolume"))),
    Operation("remove-mounted", ("rm", "-f", "-v", "point"), finish=(_ENDED, ("volume", "rm", "pointvolume")),
              prepare=(("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "pointvolume"),
                       ("run", "-d", "--name", "point", "-v", "pointvolume:/v", "-v", "/bin", *_SLEEP))),
    Operation("start", ("start", "point"), prepare=(_CREATED,), then=(("start", "point"), _LIVES),
              finish=(_ENDED,)),
    _on_running("stop", "stop", "-t", "0", "point", then=(("start", "point"), _LIVES)),
    _on_running("kill", "kill", "point", then=(("start", "point"), _LIVES)),
    _on_running("restart", "restart", "-t", "0", "point", then=(("start", "point"), _LIVES)),
    _on_running("pause", "pause", "point", then=()),
    Operation("unpause", ("unpause", "point"), prepare=(_RUNNING, ("pause", "point")), finish=(_ENDED,)),
    _on_running("rename", "rename", "point", "point2", then=()),
    _on_running("update", "update", "--restart", "always", "--memory", "100m", "--memory-swap", "200m",
                "point"),
    _on_running("exec", "exec", "point", "echo", "out"),
    _on_running("exec-detached", "exec", "-d", "point", "sleep", "0.01"),
    _on_running("copy-in", "cp", _SOURCE, "point:/tmp"),
    _on_running("copy-out", "cp", "point:/etc", "-"),
    Operation("copy-stopped", ("cp", _SOURCE, "point:/tmp"), prepare=(_CREATED,),
              then=(("start", "point"), _LIVES), finish=(_ENDED,)),
    Operation("commit", ("commit", "point", "point:made"), prepare=(_RUNNING,), then=(_LIVES,),
              finish=(_ENDED, ("rmi", "point:made"))),
    Operation("remove", ("rm", "-f", "-v", "point"),
              prepare=(("run", "-d", "-v", "/data", "-p", "80", "--name", "point", *_SLEEP),),
              finish=(_ENDED,)),
    Operation("remove-stopped", ("rm", "point"), prepare=(_CREATED,), finish=(_ENDED,)),
    Operation("prune", ("container", "prune", "-f"), prepare=(_CREATED,), finish=(_ENDED,)),
    Operation("wait", ("wait", "point"), finish=(_ENDED,),
              prepare=(("run", "-d", "--name", "point", "busybox", "sleep", "0.5"),)),
    Operation("attach", ("attach", "point"), finish=(_ENDED,),
              prepare=(("run", "-d", "--name", "point", "busybox", "sleep", "0.5"),)),
    Operation("volume-create", ("volume", "create", "--label", "a=b", "pointvolume"),
              then=(("volume", "create", "pointvolume"),),
              finish=(("volume", "rm", "pointvolume"),)),
    Operation("volume-remove", ("volume", "rm", "pointvolume"),
              prepare=(("volume", "create", "pointvolume"),)),
    Operation("volume-prune", ("volume", "prune", "-f"),
              prepare=(("volume", "create"), ("volume", "create"))),
    _on_running("diff", "diff", "point"),
    _on_running("export", "export", "-o", "/dev/null", "point"),
    _on_running("logs", "logs", "point"),
)  # fmt: skip
