"""Servers that speak TF Serving's protocol and misbehave on purpose."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

HANG_SECONDS = 0.8


class Script:
    """What a server answers, one entry for each request: a status, "hang", or "ok" (also after the last entry)."""

    def __init__(self, *entries):
        self.entries = list(entries)
        self.requests = []
        self._lock = threading.Lock()

    def next(self, request):
        with self._lock:
            self.requests.append(request)
            return self.entries.pop(0) if self.entries else "ok"


class FakeGrpc(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, script):
        self.script = script

    def follow(self, request, context):
        entry = self.script.next(request)
        if entry == "hang":
            time.sleep(HANG_SECONDS)
        elif entry != "ok":
            context.abort(grpc.StatusCode[entry], "on purpose")

    def Predict(self, request, context):
        self.follow(request, context)
        response = predict_pb2.PredictResponse()
        response.outputs["score"].CopyFrom(tf.make_tensor_proto(np.float32([0.5])))
        return response

    def GetModelStatus(self, request, context):
        self.follow(request, context)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=3, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        return response

    def GetModelMetadata(self, request, context):
        self.follow(request, context)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(get_model_metadata_pb2.SignatureDefMap())
        return response


def add_services(script, server):
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(FakeGrpc(script), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(FakeGrpc(script), server)


HTTP_CODES = {
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
    "NOT_FOUND": 404,
    "INTERNAL": 500,
    "DEADLINE_EXCEEDED": 504,
    "proxy": 502,
}


class FakeRest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        entry = self.server.script.next(self.path)
        if entry == "hang":
            time.sleep(HANG_SECONDS)
        if entry == "lost":
            self.close_connection = True
            return
        info = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [], "unknown_rank": True}}
        answer = {
            "model_version_status": [{"version": "3", "state": "AVAILABLE"}],
            "metadata": {
                "signature_def": {"signature_def": {"serving_default": {"inputs": {}, "outputs": {"score": info}}}}
            },
            "outputs": [0.5],
        }
        code = HTTP_CODES.get(entry, 200)
        body = b"" if code == 502 else json.dumps(answer if code == 200 else {"error": "on purpose"}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format, *args):
        pass
