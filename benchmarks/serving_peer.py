"""An empty endpoint: FastAPI and pydantic take a transaction and answer with a small model; nothing is done.

It is run as the service is: on the same server, with the same settings of the garbage collector.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from api.server import few_collections
from riskdistill.data.transaction import Transaction


class Nothing(BaseModel):
    """As much as an answer must say."""

    tx_id: str
    score: float
    action: str


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Freezes what the start made, as the service does once it is ready."""
    gc.freeze()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def readyz() -> str:
    """At once."""
    return "ready"


@app.post("/v1/score")
async def score(transaction: Transaction) -> Nothing:
    """Decides nothing."""
    return Nothing(tx_id=transaction.tx_id, score=0.0, action="allow")


if __name__ == "__main__":
    with few_collections():
        uvicorn.run(app, port=int(sys.argv[-1]), access_log=False, server_header=False, log_level="warning")
