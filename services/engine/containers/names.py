"""Names of containers: what is allowed, and what one is called whose user named it nothing."""

from __future__ import annotations

import re
import secrets

from services.engine.containers.ids import SHORT
from services.engine.containers.registry import Registry
from services.protocol.errors import InvalidParameter

_ALLOWED = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z", re.ASCII)
_ATTEMPTS = 8

_ADJECTIVES = (
    "agile amber ample arctic artful astute awake balmy bold brave breezy bright brisk calm candid "
    "careful cheery chief civil clean clear clever cosmic cosy crisp curious daring dapper deft devout "
    "eager early earnest easy elated elegant epic even exact fair famous fancy festive fine fleet floral "
    "fluent fond frank free fresh friendly frugal gallant gentle genuine giddy glad golden graceful grand "
    "grateful hale handy happy hardy hearty heroic honest hopeful humble ideal jolly jovial joyful just "
    "keen kind lively logical loyal lucid lucky lunar lyric magic mellow merry mighty mild modest musing "
    "neat nimble noble novel open patient peaceful placid playful polite proud quick quiet radiant rapid "
    "ready regal relaxed robust rosy serene sharp shiny silent sincere sleek smart smooth snug solar "
    "solid spry stately steady stellar sturdy subtle sunny superb sure swift tender thrifty tidy tranquil "
    "trusty upbeat valiant verdant vibrant vivid warm wise witty zealous zesty"
)
_SURNAMES = (
    "abel agnesi ampere archimedes avogadro babbage banach banting bardeen bernoulli bessel bohr "
    "boltzmann boole born bose boyle brahe cantor carson cauchy cavendish chandra chern chomsky church "
    "clairaut clausius copernicus coulomb crick curie dalton darwin davy dedekind descartes dijkstra "
    "dirac doppler drake dyson edison einstein elion engelbart erdos euclid euler fahrenheit faraday "
    "fermat fermi feynman fibonacci fourier franklin fresnel galilei galois galvani gauss gibbs goedel "
    "goodall haber halley hamilton hawking heisenberg helmholtz hermite hertz herschel hilbert hooke "
    "hopper hubble huygens hypatia jacobi jemison johnson joule kepler khorana kirchhoff knuth "
    "kovalevskaya lagrange lamarr laplace lavoisier leavitt leibniz linnaeus liskov lorentz lovelace "
    "lumiere mayer mcclintock meitner mendel mendeleev mirzakhani moebius morse nash neumann newton nobel "
    "noether ohm pascal pasteur pauling payne perlman planck poincare poisson ptolemy raman ramanujan "
    "riemann ritchie rontgen rubin rutherford sagan schroedinger shannon shockley snell stokes tesla "
    "thales thomson torvalds turing volta wallis watt weyl wiles wright yalow yukawa zeno zuse"
)
_LEFT, _RIGHT = tuple(_ADJECTIVES.split()), tuple(_SURNAMES.split())


def check_name(name: str, shown: str | None = None) -> None:
    """Raises ``InvalidParameter``; *shown* is how the text gives the name, if not as it is."""
    if not _ALLOWED.match(name):
        raise InvalidParameter(
            f"Invalid container name ({name if shown is None else shown}), "
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )


def reserve(registry: Registry, name: str, container_id: str) -> str:
    """The reserved name, without a slash; a random one for "".

    Raises ``InvalidParameter`` and ``Conflict``.
    """
    if not name:
        return _reserve_random(registry, container_id)
    check_name(name)
    name = name.removeprefix("/")
    registry.reserve_name(name, container_id)
    return name


def random_name() -> str:
    """An adjective and a surname of science, as ``brave_curie``."""
    return f"{secrets.choice(_LEFT)}_{secrets.choice(_RIGHT)}"


def _reserve_random(registry: Registry, container_id: str) -> str:
    for attempt in range(_ATTEMPTS):
        name = random_name() + (str(secrets.randbelow(10)) if attempt else "")
        if not registry.name_taken(name):
            registry.reserve_name(name, container_id)
            return name
    name = container_id[:SHORT]
    registry.reserve_name(name, container_id)
    return name
