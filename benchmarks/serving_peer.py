"""An empty endpoint: FastAPI and pydantic take a transaction and answer with a small model; nothing is done."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from riskdistill.data.transaction import Transaction


class Nothing(BaseModel):
    """As much as an answer must say."""

    tx_id: str
    score: float
    action: str


app = FastAPI()


@app.get("/readyz")
async def readyz() -> str:
    """At once."""
    return "ready"


@app.post("/v1/score")
async def score(transaction: Transaction) -> Nothing:
    """Decides nothing."""
    return Nothing(tx_id=transaction.tx_id, score=0.0, action="allow")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[-1]), access_log=False, server_header=False, log_level="warning")
