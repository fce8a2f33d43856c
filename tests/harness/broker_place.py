"""A machine, as a folder, on which Mosquitto was just installed: the place of `stockworker broker setup`."""

from dataclasses import dataclass
from pathlib import Path

from stockworker.terminal.exits import Exit
from tests.harness.command import Finished, run

NO_CONFIG = Path("/nonexistent.yml")
DEBIANS = "pid_file /run/mosquitto/mosquitto.pid\npersistence true\npersistence_location /var/lib/mosquitto/\n"
DEBIANS += "log_dest file /var/log/mosquitto/mosquitto.log\ninclude_dir /etc/mosquitto/conf.d\n"


@dataclass(frozen=True, slots=True)
class Place:
    """A machine on which Mosquitto was just installed."""

    root: Path

    @property
    def mosquitto(self) -> Path:
        return self.root / "etc" / "mosquitto"

    @property
    def folder(self) -> Path:
        return self.mosquitto / "stockworker"

    @property
    def config(self) -> Path:
        return self.mosquitto / "conf.d" / "stockworker.conf"

    @property
    def drop_in(self) -> Path:
        return self.root / "etc" / "systemd" / "system" / "mosquitto.service.d" / "stockworker.conf"

    @property
    def ca(self) -> Path:
        return self.root / "ca"

    def setup(self, *words: str) -> Finished:
        return run(NO_CONFIG, "broker", "setup", "--root", str(self.root), "--ca", str(self.ca), *words)

    def pki(self, action: str, *words: str) -> None:
        done = run(NO_CONFIG, "pki", action, *words, "--ca", str(self.ca))
        assert done.status == Exit.OK, done.errors

    def files(self) -> dict[str, tuple[bytes, int]]:
        """All that is set up, and when it was."""
        return {
            str(file): (file.read_bytes(), file.stat().st_mtime_ns)
            for file in self.mosquitto.rglob("*")
            if file.is_file()
        }


def new_place(root: Path) -> Place:
    place = Place(root)
    (place.mosquitto / "conf.d").mkdir(parents=True)
    (place.mosquitto / "mosquitto.conf").write_text(DEBIANS)
    return place
