"""``docker rename``."""

from __future__ import annotations

from services.engine.containers import transitions
from services.engine.containers.announce import announce
from services.engine.containers.model import Entry, Status
from services.engine.containers.names import check_name
from services.engine.containers.services import Services
from services.engine.scopes import Undo, settled
from services.protocol.errors import Conflict, InvalidParameter, NotFound, WharfError
from services.protocol.verbs.containers import RenameArgs


async def rename(services: Services, args: RenameArgs, *, repeated: bool = False) -> None:
    """Raises ``NotFound``, ``InvalidParameter`` and ``Conflict`` with Docker's texts.

    A *repeated* request is done when the container has the name: under its old one it is not found.
    """
    if not args.ref or not args.name:
        raise InvalidParameter("Neither old nor new names may be empty")
    new = args.name.removeprefix("/")
    if repeated and _has(services, args.ref, new):
        return
    entry = services.registry.get(args.ref)
    async with entry.runtime.lock:
        await _rename(services, entry, new)


def _has(services: Services, ref: str, name: str) -> bool:
    """Whether the container that was renamed by *ref*, an id or a name that is free now, is called *name*."""
    try:
        owner = services.registry.get(name)
    except WharfError:
        return False
    try:
        return owner.definition.name == name and services.registry.get(ref) is owner
    except NotFound:
        return True


async def _rename(services: Services, entry: Entry, new: str) -> None:
    old = entry.definition.name
    if new == old:
        raise InvalidParameter("Renaming a container with the same name as its current name")
    if entry.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict("container is marked for removal and cannot be renamed")
    try:
        check_name(new, shown="/" + new)
        services.registry.reserve_name(new, entry.id)
    except (InvalidParameter, Conflict) as error:
        raise type(error)(f"Error when allocating new name: {error}") from error

    async def back() -> None:
        entry.definition.name = old
        services.registry.release_name(new, entry.id)

    async with Undo() as undo:
        undo.push(back)
        entry.definition.name = new
        await services.registry.save_definition(entry)
        undo.keep()
    services.registry.release_name(old, entry.id)
    await settled(tell(services, entry))
    announce(services, entry, "rename", oldName="/" + old)


async def tell(services: Services, entry: Entry) -> None:
    """The networks know it by its name as well. Nothing is written where all is as it should be."""
    sandbox = await services.networks.rename(entry.id, entry.definition.name)
    if sandbox is None:
        return
    if (entry.definition.endpoints, entry.state.endpoints) != (sandbox.requested, sandbox.endpoints):
        entry.definition.endpoints = sandbox.requested
        entry.state = transitions.replace(entry.state, endpoints=sandbox.endpoints)
        await services.registry.save(entry)
