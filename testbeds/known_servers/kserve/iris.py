"""A model for KServe's Python server: rows in, a class for each of them out."""

import argparse
from typing import Any

import kserve
import scoring


class Iris(kserve.Model):
    def load(self) -> bool:
        self._weights = scoring.load()
        self.ready = True
        return self.ready

    async def predict(self, payload: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        return {"predictions": [scoring.classify(self._weights, row) for row in payload["instances"]]}


if __name__ == "__main__":
    options = argparse.ArgumentParser(parents=[kserve.model_server.parser]).parse_args()
    iris = Iris(options.model_name)
    iris.load()
    kserve.ModelServer().start([iris])
