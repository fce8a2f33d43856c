"""What a client asks the dispatcher about jobs: in as many messages as it takes."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from stockworker.client.conversation import Conversation
from stockworker.errors import AccessDenied, JobAmbiguous, JobRejected, JobUnknown, RequestRefused
from stockworker.protocol.ids import ClientId, JobId, check_job_id, full_id, owner_of, short_id, written_id
from stockworker.protocol.job_filter import MAX_QUERY, JobFilter
from stockworker.protocol.messages import Answer, Query
from stockworker.protocol.views import Ambiguity, JobOutputs, JobView, NumberedOutput

_COMPLETE: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
"""Matches an ID that this software has made: it is never a prefix."""

_PREFIXES_PER_QUERY: Final = 64


class JobQueries:
    """Asks about jobs, with full IDs.

    Args:
        conversation: with the dispatcher.
        client_id: of the client.
    """

    def __init__(self, conversation: Conversation, client_id: ClientId) -> None:
        self._conversation = conversation
        self._client_id = client_id
        self._not_operator_on: int | None = None

    # --- job IDs ------------------------------------------------------------------------------------------------------

    def full(self, job_id: str) -> JobId:
        """The full ID of a job that this client names.

        Raises:
            JobRejected: it is not a job ID.
        """
        try:
            return full_id(check_job_id(job_id), self._client_id)
        except ValueError as error:
            raise JobRejected(f"not a job ID: {error}") from None

    def short(self, full: JobId) -> JobId:
        """How this client names a job."""
        return short_id(full, self._client_id)

    def is_of_another(self, full: JobId) -> bool:
        """Whether a job belongs to another client."""
        return owner_of(full) not in {None, self._client_id}

    def denied(self, full: JobId, verb: str, error: AccessDenied) -> AccessDenied:
        """The error of a client that may not use a job of another one."""
        owner = owner_of(full)
        return AccessDenied(f"job {full} belongs to {owner}; only {owner} or an operator may {verb} it. {error}")

    # --- queries ------------------------------------------------------------------------------------------------------

    async def find(self, job_ids: Sequence[JobId], *, with_results: bool) -> list[JobView]:
        """Look jobs up; those that the dispatcher does not know are left out."""
        left = list(job_ids)
        views: list[JobView] = []
        while left:
            some, left = tuple(left[:MAX_QUERY]), left[MAX_QUERY:]
            answer = await self.ask(Query(some, None, with_results, self._conversation.no_reply))
            views += answer.jobs
            left = [*answer.omitted, *left]
        return views

    async def resolve(self, job_ids: Sequence[JobId]) -> list[JobId]:
        """Complete IDs of which only the beginning is given; an ID that names no job stays as it is.

        Raises:
            JobAmbiguous: several jobs have IDs that begin with one of them.
        """
        open_ids = [job_id for job_id in dict.fromkeys(job_ids) if not _COMPLETE(job_id.rpartition(":")[2])]
        resolved: dict[JobId, JobId] = {}
        for position in range(0, len(open_ids), _PREFIXES_PER_QUERY):
            some = open_ids[position : position + _PREFIXES_PER_QUERY]
            query = Query(tuple(some), None, with_results=False, reply=self._conversation.no_reply, by_prefix=True)
            answer = await self.ask(query)
            if answer.ambiguous:
                raise JobAmbiguous("\n".join(map(self._ambiguous, answer.ambiguous)))
            named = {*answer.omitted, *(view.job_id for view in answer.jobs)}
            for job_id in some:
                alike = [each for each in named if each.startswith(job_id)]
                resolved[job_id] = alike[0] if job_id not in named and len(alike) == 1 else job_id
        return [resolved.get(job_id, job_id) for job_id in job_ids]

    def _ambiguous(self, found: Ambiguity) -> str:
        alike = ", ".join(map(self.short, found.job_ids))
        return (
            f"{self.short(found.prefix)} is the beginning of several job IDs: {alike}. Add characters until one is left"
        )

    async def search(self, wanted: JobFilter) -> AsyncIterator[JobView]:
        """Yield jobs, newest first, page after page, without a limit."""
        while True:
            answer = await self.ask(Query((), wanted, with_results=False, reply=self._conversation.no_reply))
            views = [*answer.jobs]
            if answer.omitted:
                views += await self.find(answer.omitted, with_results=False)
            for view in views:
                yield view
            if len(views) == wanted.limit:
                wanted = replace(wanted, before=views[-1].job_id)
            elif answer.searched_to is not None:
                wanted = replace(wanted, before=answer.searched_to)
            else:
                return

    async def outputs(self, job_id: JobId, attempt: int | None) -> AsyncIterator[NumberedOutput]:
        """Yield the outputs of the attempts at a job, or of one of them, first to last.

        Raises:
            JobUnknown: the dispatcher does not know the job.
            RequestRefused: the dispatcher is of a version that does not answer this.
        """
        first: int | None = attempt or 1
        while first is not None:
            found = await self._outputs_from(job_id, first)
            for output in found.outputs:
                if attempt in {None, output.number}:
                    yield output
            first = found.following if attempt is None else None

    async def _outputs_from(self, job_id: JobId, first: int) -> JobOutputs:
        query = Query((job_id,), None, with_results=False, reply=self._conversation.no_reply, outputs_from=first)
        answer = await self.ask(query)
        if not answer.jobs:
            raise JobUnknown(f"job {self.short(job_id)} is unknown to the dispatcher")
        if answer.outputs is None:
            raise RequestRefused("the dispatcher does not know this query. Upgrade it")
        return answer.outputs

    async def ask(self, query: Query) -> Answer:
        """Ask on the topic of operators for what may be jobs of other clients, and on the client's own for the rest.

        Raises:
            AccessDenied: a job belongs to another client, and this one is not an operator.
        """
        others = next((job_id for job_id in query.ids if self.is_of_another(job_id)), None)
        written = replace(query, ids=tuple(map(written_id, query.ids)))

        async def ask(*, by_operator: bool) -> Answer:
            answer: Answer = await self._conversation.ask(
                lambda reply: replace(written, reply=reply, by_operator=by_operator)
            )
            return answer

        may_be_operator = self._not_operator_on != self._conversation.connections
        if others is not None or (query.filter is not None and may_be_operator):
            try:
                return await ask(by_operator=True)
            except AccessDenied as error:
                self._not_operator_on = self._conversation.connections
                if others is not None:
                    raise self.denied(others, "read", error) from None
        return await ask(by_operator=False)
