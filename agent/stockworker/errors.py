"""All errors that stockworker raises on purpose.

::

    StockworkerError
    ├── ConfigError         the configuration is invalid; names file, key and line
    ├── DecodeError         a peer sent an invalid message; names topic and reason
    ├── ProtocolMisuse      a bug: this program asked for an illegal transition or value
    ├── ConnectionFailed    the broker is unreachable or refuses the connection; names cause and remedy
    │   ├── AccessDenied    the broker refuses the connection or denies an operation
    │   └── NoAnswer        the broker is connected, but no dispatcher answers
    ├── RequestRefused      the dispatcher refused a whole request; has its reason
    ├── CertificateRefused  the fleet's authority refuses to sign a certificate; names the reason
    ├── StoreError          a store or journal file is not usable; names the file
    │   └── StoreDamaged    its content is damaged
    ├── SymbolUnknown       the market-data store has no bars of a symbol
    ├── ServiceFault        a service caught an unexpected exception: a defect of stockworker
    └── JobError
        ├── JobRejected     the dispatcher rejected a submission; has its reason
        ├── JobUnknown      the dispatcher does not know the job: it was never stored, or was deleted
        ├── JobNotCompleted a job ended in another state than completed
        ├── ResultRefused   a job completed, but its result is not trustworthy
        └── SealRefused     a sealed string can't be opened, or is not trusted
"""

from typing import ClassVar


class StockworkerError(Exception):
    """Base of the tree. `code` is stable, for programs; the text is for people."""

    code: ClassVar[str] = "error"


class ConfigError(StockworkerError):
    """The configuration is not usable. The text names file, key and line, and the remedy."""

    code = "config"


def unread(error: OSError, absent: str = "create it, or correct the path") -> str:
    """Why a file can't be read, and the remedy.

    Args:
        error: the reason.
        absent: the remedy if the file does not exist.
    """
    remedy = "correct the path"
    if isinstance(error, FileNotFoundError):
        remedy = absent
    elif isinstance(error, PermissionError):
        remedy = "run this as a user who may read it, or name a file of this user"
    return f"{error.strerror}; {remedy}"


class DecodeError(StockworkerError):
    """Bytes from the wire are not a valid message."""

    code = "decode"

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"{topic}: {reason}")
        self.topic = topic
        self.reason = reason


class ProtocolMisuse(StockworkerError):
    """This program asked for a transition or a value that the protocol does not have: a bug."""

    code = "misuse"


class ConnectionFailed(StockworkerError):
    """The broker is unreachable or refuses the connection. The text names the cause and the remedy."""

    code = "connection"


class AccessDenied(ConnectionFailed):
    """The broker refuses the connection or denies an operation. The text names the identity and the operation."""

    code = "denied"


class NoAnswer(ConnectionFailed):
    """The broker accepted a request, but no dispatcher answered in time. The request may or may not have been done."""

    code = "no_answer"


class RequestRefused(StockworkerError):
    """The dispatcher refused a whole request, because it is not a valid message there. The text has its reason."""

    code = "request_refused"


class CertificateRefused(StockworkerError):
    """The fleet's authority refuses to sign a certificate, because of its name or its key."""

    code = "certificate"


class StoreError(StockworkerError):
    """A store, journal or market-data file is not usable. The text names the file."""

    code = "store"


class StoreFull(StoreError):
    """The disk of a store is full. The store itself is sound."""

    code = "full"


class StoreDamaged(StoreError):
    """A store, journal or market-data file is damaged. The text has the remedy."""

    code = "damaged"


class SymbolUnknown(StockworkerError):
    """The market-data store has no bars of a symbol. The text suggests a similar one."""

    code = "symbol_unknown"


class ServiceFault(StockworkerError):
    """A service ended with an unexpected exception. The log has the event `fault` with its traceback."""

    code = "fault"


class JobError(StockworkerError):
    """An error about one job."""

    code = "job"


class JobRejected(JobError):
    """The dispatcher did not accept a submission."""

    code = "rejected"


class JobUnknown(JobError):
    """The dispatcher does not know a job with this ID: it was never stored, or was deleted."""

    code = "unknown"


class JobAmbiguous(JobUnknown):
    """Several jobs have IDs that begin with what was given as one. The text lists them."""

    code = "ambiguous"


class JobNotCompleted(JobError):
    """The awaited job failed, was cancelled or expired."""

    code = "not_completed"


class ResultRefused(JobError):
    """The result of a completed job can't be opened with this client's keys, or is not from a trusted worker."""

    code = "result_refused"


class SealRefused(JobError):
    """A sealed string is refused; `reason` is a value of `stockworker.sealing.envelope.Refusal`."""

    code = "seal_refused"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
