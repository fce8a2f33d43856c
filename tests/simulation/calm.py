"""Since when each part has been undisturbed: a law that holds only in calm weather has to know."""

from math import inf

from tests.simulation.world import World

EVERYBODY = "everybody"


class Calm:
    """What disturbs which part now, and when the last disturbance ended."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ongoing: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}

    @property
    def now(self) -> float:
        """The true time."""
        return self._world.now

    def begin(self, part: str, trouble: str) -> None:
        self._ongoing.setdefault(part, set()).add(trouble)

    def end(self, part: str, trouble: str) -> None:
        self._ongoing.setdefault(part, set()).discard(trouble)
        self._since[part] = self._world.now

    def disturb(self, part: str) -> None:
        """Something has happened that is over already."""
        self._since[part] = self._world.now

    def lasts_s(self, *parts: str) -> float:
        """For how long all these parts have been undisturbed; 0 if one is disturbed now."""
        return min(self._of(part) for part in (EVERYBODY, *parts))

    def _of(self, part: str) -> float:
        if self._ongoing.get(part):
            return 0.0
        since = self._since.get(part)
        return inf if since is None else self._world.now - since
