"""A team's own service: a form of its own, and metrics by prometheus-fastapi-instrumentator."""

import time

import scoring
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel

SPECIES = ("setosa", "versicolor", "virginica")
app = FastAPI()
Instrumentator().instrument(app).expose(app)
weights = scoring.load()


class Flower(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/classify")
def classify(flower: Flower) -> dict[str, object]:
    row = (flower.sepal_length, flower.sepal_width, flower.petal_length, flower.petal_width)
    return {"species": SPECIES[scoring.classify(weights, row)], "answered_at": time.time()}
