"""The tree of errors: each class has a code of its own, which programs may rely on."""

from stockworker.errors import StockworkerError

CODES = {
    "StockworkerError": "error",
    "ConfigError": "config",
    "DecodeError": "decode",
    "ProtocolMisuse": "misuse",
    "ConnectionFailed": "connection",
    "AccessDenied": "denied",
    "NoAnswer": "no_answer",
    "RequestRefused": "request_refused",
    "CertificateRefused": "certificate",
    "StoreError": "store",
    "StoreDamaged": "damaged",
    "StoreFull": "full",
    "ServiceFault": "fault",
    "JobError": "job",
    "JobRejected": "rejected",
    "JobUnknown": "unknown",
    "JobAmbiguous": "ambiguous",
    "JobNotCompleted": "not_completed",
    "ResultRefused": "result_refused",
    "SealRefused": "seal_refused",
    "SymbolUnknown": "symbol_unknown",
}


def tree(error: type[StockworkerError]) -> dict[str, str]:
    found = {error.__name__: error.code} if error.__module__ == "stockworker.errors" else {}
    for child in error.__subclasses__():
        found |= tree(child)
    return found


def test_the_codes_have_not_changed() -> None:
    assert tree(StockworkerError) == CODES
    assert len(set(CODES.values())) == len(CODES)
