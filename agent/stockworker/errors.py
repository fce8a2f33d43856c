"""Every error that stockworker raises on purpose.

::

    StockworkerError
    ├── ConfigError         the configuration is wrong: names file, key and line
    ├── DecodeError         a peer sent bytes that are no message: names topic and reason
    ├── ProtocolMisuse      we asked our own code for something illegal: a bug of ours
    ├── ConnectionFailed    the broker can't be reached, or refused us: says why and what to do
    │   ├── AccessDenied    the broker does not let us in, or not do what we wanted
    │   └── NoAnswer        the broker is there, and no dispatcher answers
    ├── CertificateRefused  the fleet's authority does not sign what was asked: says why
    ├── StoreError          a store or journal file can't be used: names the file
    │   └── StoreDamaged    what is in it can't be trusted any more
    ├── ServiceFault        a service met an exception that it does not expect: a defect of stockworker
    └── JobError
        ├── JobRejected     the dispatcher refused a submission, with its reason
        ├── JobUnknown      the dispatcher has never heard of the job, or has forgotten it
        ├── JobNotCompleted a job ended in another state than completed
        ├── ResultRefused   a job has completed, and what came as its result is not to be believed
        └── SealRefused     a sealed string can't be opened, or can't be trusted
"""

from typing import ClassVar


class StockworkerError(Exception):
    """Base of the tree; `code` is stable, for programs, the text is for people."""

    code: ClassVar[str] = "error"


class ConfigError(StockworkerError):
    """The configuration can't be used. The text names file, key and line, and how to mend it."""

    code = "config"


class DecodeError(StockworkerError):
    """Bytes from the wire that are no valid message."""

    code = "decode"

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"{topic}: {reason}")
        self.topic = topic
        self.reason = reason


class ProtocolMisuse(StockworkerError):
    """Our own code asked for a transition or a value that the protocol does not know."""

    code = "misuse"


class ConnectionFailed(StockworkerError):
    """The broker can't be reached or does not let us in. The text names the cause and the next step."""

    code = "connection"


class AccessDenied(ConnectionFailed):
    """The broker does not let us in, or not do what we wanted. The text names who we are and what was denied."""

    code = "denied"


class NoAnswer(ConnectionFailed):
    """The broker took what we asked, and no dispatcher answered in time. Whether it was done is not known."""

    code = "no_answer"


class CertificateRefused(StockworkerError):
    """The fleet's authority does not sign what was asked of it, because of its name or its key."""

    code = "certificate"


class StoreError(StockworkerError):
    """A store, journal or market-data file can't be used. The text names the file."""

    code = "store"


class StoreDamaged(StoreError):
    """A file that holds what it should not, or less than it should. The text says what to do."""

    code = "damaged"


class ServiceFault(StockworkerError):
    """A service ended with an exception that it does not expect. The log has it as `fault`, with its traceback."""

    code = "fault"


class JobError(StockworkerError):
    """Something about one job."""

    code = "job"


class JobRejected(JobError):
    """The dispatcher did not accept a submission."""

    code = "rejected"


class JobUnknown(JobError):
    """The dispatcher knows no job of this id: it was never stored."""

    code = "unknown"


class JobNotCompleted(JobError):
    """The job that was waited for ended as failed, cancelled or expired."""

    code = "not_completed"


class ResultRefused(JobError):
    """The result of a completed job can't be opened with our keys, or is not from a worker that the keyring knows."""

    code = "result_refused"


class SealRefused(JobError):
    """A sealed string is not accepted; `reason` is a word of `stockworker.sealing.envelope.Refusal`."""

    code = "seal_refused"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
