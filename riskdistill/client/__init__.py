"""A typed client of the scoring service, for threads and for asyncio.

    with Client("http://127.0.0.1:8000", api_key=key) as client:
        answer = client.score(transaction)

    async with AsyncClient() as client:                  # RISKDISTILL_URL, RISKDISTILL_API_KEY or RISKDISTILL_TOKEN
        async for answer in client.score_many(transactions):
            ...

Requests that met a busy service (429, 503) or a broken connection are sent again, ever later, at random times, and
not before `Retry-After`. That is safe: the service knows a transaction by its id, and answers it once. What it
refuses is raised as the error of `riskdistill.errors` that it was there.
"""

from riskdistill.client.aio import AsyncClient
from riskdistill.client.answers import Answer, Readiness, Reason
from riskdistill.client.connection import MAX_BATCH
from riskdistill.client.threads import Client

__all__ = ["MAX_BATCH", "Answer", "AsyncClient", "Client", "Readiness", "Reason"]
