"""The sealing keys of a fleet, in files that `stockworker keys` creates and rotates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockworker.cli import main
from stockworker.protocol.ids import ClientId
from stockworker.sealing import keyring, keys
from stockworker.sealing.keyring import Holder
from stockworker.sealing.keys import KeyFile
from stockworker.sealing.submitter_seal import SubmitterSeal


class FleetKeys:
    """One folder with a keyring and the private keys of all participants.

    Args:
        folder: must not exist yet.
        groups: the job types and the workers of each group, by its name.
        submitters: the client IDs that may submit.
        options: further keys of the section `encryption`.
    """

    def __init__(
        self,
        folder: Path,
        groups: Mapping[str, tuple[Sequence[str], Sequence[str]]],
        submitters: Sequence[str] = ("client",),
        **options: Any,
    ) -> None:
        self.folder = folder
        self.ring = folder / "keyring"
        self._groups = groups
        self._options = options
        folder.mkdir(parents=True)
        for name, (types, _) in groups.items():
            self.command("generate", Holder.GROUP, name, "--types", ",".join(types))
        for worker in {worker for _, workers in groups.values() for worker in workers}:
            self.command("generate", Holder.WORKER, worker)
        for submitter in submitters:
            self.command("generate", Holder.SUBMITTER, submitter)

    def command(self, action: str, holder: Holder, name: str, *more: str) -> None:
        """Run `stockworker keys` on the files of this folder."""
        files = ("--file", str(self.file(holder, name)), "--keyring", str(self.ring))
        assert main(["keys", action, holder, name, *files, *more]) == 0

    def file(self, holder: Holder, name: str) -> Path:
        return self.folder / f"{holder}-{name}.pem"

    def settings(self, identity: str) -> dict[str, Any]:
        """The section `encryption` of one participant: for `Fleet(personal=...)`."""
        files = [self.file(holder, identity) for holder in (Holder.WORKER, Holder.SUBMITTER)]
        own = [str(file) for file in files if file.exists()]
        if not own:
            return {}
        groups = [name for name, (_, workers) in self._groups.items() if identity in workers]
        return {
            "encryption": {
                "keyring": str(self.ring),
                "key": own[0],
                "group_keys": [str(self.file(Holder.GROUP, name)) for name in groups],
                **self._options,
            }
        }

    def keys(self, holder: Holder, name: str) -> KeyFile:
        return keys.load(self.file(holder, name))

    def submitter(
        self, name: str, *, ring: Path | None = None, sign: bool = True, valid_for_s: float = 3600.0
    ) -> SubmitterSeal:
        """The seal of a submitter that reads the keyring of this folder, or another one."""
        known = keyring.load(ring or self.ring)
        return SubmitterSeal(
            ClientId(name), known, self.keys(Holder.SUBMITTER, name), sign=sign, valid_for_s=valid_for_s
        )
