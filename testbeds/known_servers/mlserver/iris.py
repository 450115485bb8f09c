"""A runtime of one's own for MLServer: a data frame in, a class for each of its rows out."""

import scoring
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse
from numpy import array


class Iris(MLModel):
    async def load(self) -> bool:
        self._weights = scoring.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = PandasCodec.decode_request(payload).to_numpy()
        classes = array([scoring.classify(self._weights, row) for row in rows])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("predict", classes)])
