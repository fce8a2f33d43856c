"""An order of an operator to a worker, `flush`: send the reports that are not acknowledged again, now.

It works from the command line through the client, the wire and the dispatcher to the worker, which sends its report.
"""

from typing import Final

from tests.architecture.additions import Addition, Edit

_MESSAGES: Final = "agent/stockworker/protocol/messages.py"
_TOPICS: Final = "agent/stockworker/protocol/topics.py"
_RECORDED: Final = "tests/unit/test_codec.py::test_every_message_is_recorded"

_ROUND_TRIP: Final = """
import asyncio
from stockworker.adapters.sqlite import MEMORY
from stockworker.cli import main, operator_commands
from stockworker.client import Client
from stockworker.dispatcher.answers import respond
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.dispatcher.turn import DispatcherTurns
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId
from stockworker.protocol.messages import Reply
from stockworker.shell.turn import Now
from tests.harness.dispatching import MIDDAY, POLICY, PRESENCE
from tests.harness.entropy import Counting
from tests.harness.working import JOB_A, A1, WORKER, WorkerBook, attempt, finished, reported

book = WorkerBook()
book.connect()
book.run(JOB_A)
assert book.turn([finished(A1)]) == [reported(attempt(JOB_A))]

store, now = SqliteJobStore(MEMORY), Now(MIDDAY, MIDDAY)
machine = DispatcherMachine(POLICY, Counting(), PRESENCE, store.load(), now)
turns = DispatcherTurns(machine, store, POLICY.lease_s)


class Connected(Client):
    def __init__(self):
        self._conversation = self

    async def ask(self, make):
        answers, self.effects = [], []
        output = turns.take([codec.encode(make(Reply(ClientId("alice"), "1")))], now)
        asked = () if output.asked is None else respond(output.asked, store.reader()).packets
        for packet in (*output.packets, *asked):
            if packet.topic.startswith("workers/control/"):
                self.effects += book.turn([codec.decode(packet)])
            else:
                answers.append(codec.decode(packet))
        (answer,) = answers
        return answer


client = Connected()
operator_commands.converse = lambda arguments, talk, **options: asyncio.run(talk(client))
assert main(["flush", WORKER]) == 0
assert client.effects == [reported(attempt(JOB_A))], client.effects
"""

ORDER: Final = Addition(
    row="an order of an operator to a worker",
    edits={
        "the message": Edit(
            _MESSAGES,
            {
                "\n\n@dataclass(frozen=True, slots=True)\nclass Query(_ToClient):": (
                    "\n\n@dataclass(frozen=True, slots=True)\nclass FlushReports:\n"
                    '    """Let a worker send the reports that are not acknowledged again, now."""\n\n'
                    "    topics = on(TopicKind.FLUSH)\n"
                    '    worker_id: Annotated[WorkerId, Level("flushed_id")]\n'
                    "    reply: Reply | None = None\n"
                )
            },
        ),
        "its place among the orders": Edit(_MESSAGES, {'\n"""What a client orders, and': " | FlushReports"}),
        "the order to the worker": Edit(
            _MESSAGES,
            {"\n\n@dataclass(frozen=True, slots=True)\nclass Control:": '    FLUSH = "flush"\n'},
        ),
        "its receipt": Edit(_MESSAGES, {'    REJECTED = "rejected"\n': '    PASSED_ON = "passed on"\n'}),
        "its topic": Edit(_TOPICS, {'    CLEANUP = "workers/cleanup"\n': '    FLUSH = "workers/flush"\n'}),
        "the rights to its topic": Edit(
            _TOPICS,
            {
                "    Topic(TopicKind.CLEANUP, ": (
                    '    Topic(TopicKind.FLUSH, ("flushed_id",), frozenset({_OPERATOR}), _DISPATCHERS, "report again"),\n'
                )
            },
        ),
        "what the dispatcher does": Edit(
            "agent/stockworker/dispatcher/orders.py",
            {
                "Order, ReceiptEntry, ": "Control, ControlAction, FlushReports, ",
                "\n    def _cancel(": (
                    "            case FlushReports(worker_id=worker_id):\n"
                    "                self._outbox.send(Control(worker_id, ControlAction.FLUSH))\n"
                    "                return ReceiptEntry(None, ReceiptStatus.PASSED_ON, self._unknown(worker_id))\n"
                ),
            },
        ),
        "what the worker does": Edit(
            "agent/stockworker/worker/machine.py",
            {
                "\n    def _begin_drain(": (
                    "            case ControlAction.FLUSH:\n"
                    "                for lease in self._leases.unreported.values():\n"
                    "                    lease.reported_at = None\n"
                )
            },
        ),
        "what the command does": Edit(
            "agent/stockworker/cli/operator_commands.py",
            {
                "Order, ReceiptEntry, ": "FlushReports, ",
                "def _complete_for_types(": (
                    "def flush(parser: argparse.ArgumentParser) -> None:\n"
                    '    """Complete the parser of ``stockworker flush``."""\n'
                    '    parser.description = "Let these workers report again. Requires operator rights."\n'
                    '    _complete_for_workers(parser, FlushReports, "flushed")\n\n\n'
                ),
            },
        ),
        "its command": Edit(
            "agent/stockworker/cli/commands.py",
            {
                '    "stats": Command(': (
                    '    "flush": Command("let a worker report again", "cli.operator_commands:flush", "flush edge-7-1"),\n'
                )
            },
        ),
        "its output in the manual": Edit(
            "docs/pages/commands.py",
            {'    ("stats", f"': '    ("flush", "worker, status (flushed), reason"),\n'},
            missed_by="tests/unit/test_cli_parser.py::test_the_manual_has_the_json_output_of_every_command",
        ),
        "its recorded message": Edit(
            "tests/unit/test_codec.py",
            {'    "query next page": ': '    "flush": messages.FlushReports(W, R),\n'},
            missed_by=_RECORDED,
        ),
        "its recorded bytes": Edit(
            "tests/vectors/schema-1.json",
            {
                ' {\n  "name": "query next page",': (
                    ' {\n  "name": "flush",\n  "topic": "workers/flush/edge-7-1",\n  "retain": false,\n'
                    '  "properties": {"response_topic": "jobs/receipt/alice", "correlation_data": "c-1"},\n'
                    '  "body": "{\\"schema\\":1}"\n },\n'
                )
            },
            missed_by=_RECORDED,
        ),
    },
    round_trip=_ROUND_TRIP,
)
