"""What a version answers before it serves: the requests that were exported with it.

`assets.extra/tf_serving_warmup_requests` in the version's folder is a TFRecord file of PredictionLogs. As in TF Serving
a request that fails keeps the version from serving, and so does a file with more than a thousand of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from kbert.serving import apis
from kbert.serving.calls import Code, ServingError, invalid
from kbert.serving.models import Model

FILE = Path("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000

_ANSWER = {
    "predict_log": apis.predict,
    "classify_log": apis.classify,
    "regress_log": apis.regress,
    "multi_inference_log": apis.multi_inference,
}


def warm_up(model: Model, folder: Path) -> int:
    """Let a model answer the requests in its folder.

    Returns:
        How many there are.

    Raises:
        ServingError: with the code of the one that failed, or INVALID_ARGUMENT for a file that cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return 0
    number = 0
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(path)), 1):
            if number > MAX_RECORDS:
                raise invalid(f"{path} has more than {MAX_RECORDS} requests")
            _answer(model, prediction_log_pb2.PredictionLog.FromString(record.numpy()))
    except ServingError as error:
        raise ServingError(error.code, f"warm-up request {number} of {path} failed: {error}") from error
    except (tf.errors.OpError, DecodeError) as error:
        raise invalid(f"{path} is no TFRecord file of PredictionLogs: {error}") from error
    return number


def _answer(model: Model, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind not in _ANSWER:
        raise ServingError(Code.UNIMPLEMENTED, f"a PredictionLog must be one of {sorted(_ANSWER)}. Received: {kind}")
    _ANSWER[kind](model, getattr(log, kind).request, model.predict)
