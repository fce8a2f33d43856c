"""A job option `weight`: it works from Python and the command line through the wire to the store and back."""

from typing import Final

from tests.architecture.additions import Addition, Edit

_RECORDED: Final = "tests/unit/test_codec.py::test_every_message_is_recorded"

_ROUND_TRIP: Final = """
import argparse
from stockworker.adapters.sqlite import MEMORY
from stockworker.cli.job_options import add_job_options, option_values
from stockworker.client import make_submission
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.dispatcher.turn import DispatcherTurns
from stockworker.protocol import codec
from stockworker.protocol.messages import Submit
from stockworker.shell.turn import Now
from tests.harness.dispatching import MIDDAY, POLICY, PRESENCE
from tests.harness.entropy import Counting

parser = argparse.ArgumentParser()
add_job_options(parser)
options = option_values(parser.parse_args(["--weight", "7"]))
packet = codec.encode(Submit((make_submission("echo", id="job-1", **options),), None))
assert ("weight", "7") in packet.properties.user, packet
store, now = SqliteJobStore(MEMORY), Now(MIDDAY, MIDDAY)
machine = DispatcherMachine(POLICY, Counting(), PRESENCE, store.load(), now)
DispatcherTurns(machine, store, POLICY.lease_s).take([packet], now)
job = store.find(["job-1"])["job-1"]
assert job.spec.weight == 7, job
"""

JOB_OPTION: Final = Addition(
    row="a job option",
    edits={
        "the option": Edit(
            "agent/stockworker/protocol/job.py",
            {
                "\n\nclass JobArguments(": (
                    '    weight: Annotated[int | None, Integer(0, 9), Wire("the weight of the job in reports")] = None\n'
                )
            },
            missed_by=_RECORDED,
        ),
        "its keyword argument": Edit(
            "agent/stockworker/protocol/job.py",
            {"\n\n@dataclass(frozen=True, slots=True, kw_only=True)\nclass JobSpec(": "    weight: int | None\n"},
            missed_by="tests/unit/test_job_options.py::test_keyword_arguments_are_the_options",
        ),
        "its column": Edit(
            "agent/stockworker/dispatcher/store_sqlite.py",
            {")\n\n_NEWEST: Final": '    "ALTER TABLE job ADD COLUMN weight INTEGER",\n'},
        ),
        "its recorded message": Edit(
            "tests/unit/test_codec.py",
            {
                '    "cancel": messages.CancelJob(J, R),\n': (
                    '    "weight": messages.Submit('
                    '(messages.Submission(None, TA, job.Priority.LOW, "", weight=7),), None),\n'
                ),
                "job_id=J, payload=TEXT, **ALL_OPTIONS": "weight=7, ",
            },
            missed_by=_RECORDED,
        ),
        "its recorded bytes": Edit(
            "tests/vectors/schema-1.json",
            {
                ' {\n  "name": "cancel",': (
                    ' {\n  "name": "weight",\n  "topic": "jobs/queue/low/technical_analysis",\n  "retain": false,\n'
                    '  "properties": {"user": [["weight", "7"]]},\n  "body": ""\n },\n'
                ),
                r",\"id\":\"018bcfe5-687b-7d95-85dc-86740e7a269f\",\"payload\":": r",\"weight\":7",
            },
            missed_by=_RECORDED,
        ),
    },
    round_trip=_ROUND_TRIP,
)
