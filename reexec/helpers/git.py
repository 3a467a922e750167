"""``docker-git JSON``: a commit of a remote repository, checked out (build contexts, ``ADD``).

What is fetched is hostile: no configuration but what is here, no hooks, no helpers, no prompts, and no
transport that reads the host's files or runs what a repository names. moby ``builder/remotecontext/git``.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
from pathlib import Path

import msgspec

from reexec.archive import syscalls
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import Failure, SystemError_, WharfError, from_failure, to_failure

_PASSED = ("PATH", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR")
#: curl reads the first one in lower case only.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_ENVIRONMENT = {
    "LC_ALL": "C",
    "HOME": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_ATTR_NOSYSTEM": "1",
}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "protocol.file.allow=never",
    "init.defaultBranch=master",
)
_DUMB = "does not support shallow"


class Clone(msgspec.Struct, frozen=True):
    """``directory`` does not exist yet. ``ref`` is a branch, a tag, a full commit id or another name that
    the server has. ``secret`` is what no message may show. ``checksum``: the beginning of the commit's id,
    or of the tag's; "": any."""

    url: str
    ref: str
    directory: str
    keep_git_dir: bool = True
    checksum: str = ""
    secret: str = ""


@register("docker-git")
def main(call: Call) -> bytes:
    """The result is the commit's id. Raises ``SystemError_`` in dockerd's words."""
    args = call.document(Clone)
    if shutil.which("git") is None:
        raise SystemError_(
            'exec: "git": executable file not found in $PATH (the package "git" is needed on the host of the '
            "daemon)"
        )
    os.umask(0o022)
    answer = _alone(args)
    if isinstance(answer, Failure):
        raise from_failure(answer)
    return msgspec.msgpack.encode(answer)


def _alone(args: Clone) -> str | Failure:
    """Clone in the first process of a namespace: git starts many, and none of them outlives this one."""
    result, write = os.pipe()
    watch, alive = os.pipe()
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(result)
        os.close(alive)
        _be_first(args, watch, write)
    os.close(write)
    os.close(watch)
    with open(result, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    os.close(alive)
    if not answer:
        raise SystemError_("git was killed")
    return msgspec.msgpack.decode(answer, type=str | Failure)


def _be_first(args: Clone, watch: int, write: int) -> None:
    try:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        if select.select([watch], [], [], 0)[0]:
            return  # the parent ended before it could be watched
        answer: str | Failure
        try:
            answer = _Repository(args).clone()
        except Exception as error:
            answer = to_failure(error)
        data = memoryview(msgspec.msgpack.encode(answer))
        while data:
            data = data[os.write(write, data) :]
    finally:
        os._exit(0)


class _Failed(WharfError):
    """A command's output and status."""


class _Repository:
    def __init__(self, args: Clone) -> None:
        self._args = args
        self._top = Path(args.directory)

    def clone(self) -> str:
        args = self._args
        self._top.mkdir()
        self._step(f"failed to init repo at {args.url}", "init", "--quiet", "--template=")
        self._step(f"failed add origin repo at {args.url}", "remote", "add", "origin", args.url)
        self._fetch()
        self._checkout()
        commit = self._git("rev-parse", "HEAD").strip()
        fetched = self._git("rev-parse", "FETCH_HEAD").strip()
        if not commit.startswith(args.checksum) and not fetched.startswith(args.checksum):
            raise SystemError_(f"expected checksum to match {args.checksum}, got {commit}")
        if (self._top / ".gitmodules").is_file():
            self._step(
                "error initializing submodules",
                "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1",
            )  # fmt: skip
        if not args.keep_git_dir:
            self._forget()
        return commit

    def _fetch(self) -> None:
        try:
            self._git("fetch", "--quiet", "--depth", "1", "origin", "--", self._args.ref)
        except _Failed as error:
            if _DUMB not in str(error):
                raise SystemError_(f"error fetching: {error}") from error
            self._step("error fetching", "fetch", "--quiet", "origin", "--", self._args.ref)

    def _checkout(self) -> None:
        """By name, so that a branch is checked out as such; else what was fetched."""
        ref = self._args.ref
        try:
            self._git("checkout", "--quiet", ref)
        except _Failed as error:
            try:
                self._git("checkout", "--quiet", "FETCH_HEAD")
            except _Failed:
                raise SystemError_(f"error checking out {ref}: {error}") from error

    def _forget(self) -> None:
        """Git lets no commit have a ``.git``: all there are are its own."""
        for top, directories, files in os.walk(self._top):
            if ".git" in directories:
                directories.remove(".git")
                shutil.rmtree(os.path.join(top, ".git"))
            if ".git" in files:
                os.unlink(os.path.join(top, ".git"))

    def _step(self, failed: str, *arguments: str) -> None:
        try:
            self._git(*arguments)
        except _Failed as error:
            raise SystemError_(self._shown(f"{failed}: {error}")) from error

    def _git(self, *arguments: str) -> str:
        import subprocess  # by the child alone: no other process forked from the zygote needs it

        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=self._top, env=_environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            raise _Failed(self._shown(f"{output}: exit status {done.returncode}"))
        return output

    def _shown(self, text: str) -> str:
        secret = self._args.secret
        return text.replace(f"{secret}@", "xxxxx@") if secret else text


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    for name in _PROXIES:
        if value := os.environ.get(name) or os.environ.get(name.lower()):
            environment[name] = environment[name.lower()] = value
    return environment | _ENVIRONMENT
