"""The local server by REST, asked by Python's own HTTP client."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.request

import pytest


@pytest.fixture(scope="module")
def ask(server):
    def ask(path, body=None, method=None):
        """Status and JSON of a request: POST if there is a body (bytes as they are, others as JSON)."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{server.rest_port}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return ask


def predict(ask, body, path="/v1/models/toy:predict"):
    status, answer = ask(path, body)
    assert status == 200, answer
    return answer


def test_rows(ask):
    instances = [{"text": "naïve", "weight": 0.5}, {"text": "漢字", "weight": -3}]
    assert predict(ask, {"instances": instances}) == {
        "predictions": [
            {"upper": "NAÏVE", "product": 5.0, "pieces": ["naïve", "5", "naïve!"]},
            {"upper": "漢字", "product": -30.0, "pieces": ["漢字", "2", "漢字!"]},
        ]
    }


def test_columns(ask):
    body = {"inputs": {"text": ["a", "b", "cd"], "weight": [1, 2, 3]}}
    assert predict(ask, body) == {
        "outputs": {
            "upper": ["A", "B", "CD"],
            "product": [10.0, 20.0, 30.0],
            "pieces": [["a", "1", "a!"], ["b", "1", "b!"], ["cd", "2", "cd!"]],
        }
    }


def test_version_in_the_path(ask):
    body = {"inputs": {"text": ["a"], "weight": [3]}}
    assert predict(ask, body, "/v1/models/toy/versions/10:predict")["outputs"]["product"] == [30.0]


def test_one_input_and_one_output_go_without_names(ask):
    for instances in (["abcd", "", "é"], [{"text": "abcd"}, {"text": ""}, {"text": "é"}]):
        body = {"signature_name": "one_output", "instances": instances}
        assert predict(ask, body) == {"predictions": [4, 0, 2]}
    for inputs in (["abcd", "x"], {"text": ["abcd", "x"]}):
        assert predict(ask, {"signature_name": "one_output", "inputs": inputs}) == {"outputs": [4, 1]}


def test_base64_both_ways(ask):
    body = {"signature_name": "echo", "inputs": ["é", {"b64": "YQ=="}]}
    outputs = predict(ask, body)["outputs"]
    assert outputs == {"echo": ["é", "a"], "echo_bytes": [{"b64": "w6k="}, {"b64": "YQ=="}]}
    body = {"signature_name": "one_output", "instances": [{"b64": "AP8="}, "é", {"b64": ""}]}
    assert predict(ask, body) == {"predictions": [2, 2, 0]}


def test_strings_that_are_no_utf8_go_out_as_they_are(server):
    """As TF Serving has it; the output whose name ends in _bytes carries the same in base64."""
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/toy:predict"
    with urllib.request.urlopen(
        url, b'{"signature_name": "echo", "inputs": [{"b64": "YWL/"}]}', timeout=10
    ) as response:
        answer = response.read()
    assert b'"echo": ["ab\xff"]' in answer
    assert b'"echo_bytes": [{"b64": "YWL/"}]' in answer


def test_types_and_numbers_that_json_has_no_word_for(ask):
    body = b'{"signature_name": "types", "instances": [[0.2, 0, -0.0], [NaN, -Infinity, 4]]}'
    first, second = predict(ask, body)["predictions"]
    assert first["inverse"] == [5.0, math.inf, -math.inf]
    assert first["double"] == [0.20000000298023224, 0.0, 0.0]
    assert first["positive"] == [True, False, False]
    assert first["raw_bytes"] == [{"b64": "MC4y"}, {"b64": "MC4w"}, {"b64": "LTAuMA=="}]
    assert math.isnan(second["inverse"][0])
    assert second["inverse"][2] == 0.25
    assert second["positive"] == [False, False, True]


def test_floats_are_written_short(server):
    """A float32 of 0.2 is 0.20000000298 as a double: written as 0.2, it reads back as the same float32."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
    connection.request(
        "POST", "/v1/models/toy:predict", b'{"signature_name": "types", "inputs": [[5, 1e10, Infinity]]}'
    )
    text = connection.getresponse().read().decode()
    connection.close()
    assert '"inverse": [[0.2, 1e-10, 0.0]]' in text
    assert '"double": [[5.0, 10000000000.0, Infinity]]' in text


OK = {"inputs": {"text": ["a"], "weight": [1]}}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "JSON"),
        (b"\xff", 400, "UTF-8"),
        (b"[]", 400, "object"),
        (b'{"inputs": ' + b"[" * 100_000, 400, "nested too deeply"),
        (b"{}", 400, '"instances" or "inputs"'),
        ({**OK, "instances": []}, 400, '"instances" or "inputs"'),
        ({"instances": []}, 400, "at least one"),
        ({"instances": {"text": "a", "weight": 1}}, 400, "list"),
        ({"instances": ["a"]}, 400, "several inputs: ['text', 'weight']"),
        ({"inputs": ["a"]}, 400, "several inputs: ['text', 'weight']"),
        ({"instances": [{"text": "a", "weight": 1}, {"text": "a"}]}, 400, "instances[1]"),
        ({"instances": [{"text": "a", "weight": 1}, "a"]}, 400, "instances[1]"),
        ({"inputs": {"text": ["a"]}}, 400, "['text', 'weight']"),
        ({"inputs": {"text": ["a"], "weight": [1], "extra": 1}}, 400, "'extra'"),
        ({"inputs": {"text": ["a", 5], "weight": [1, 2]}}, 400, "'text'[1] must be DT_STRING. Received: 5"),
        ({"inputs": {"text": ["\ud800"], "weight": [1]}}, 400, "DT_STRING"),
        ({"inputs": {"text": [{"b64": "!"}], "weight": [1]}}, 400, "base64"),
        ({"inputs": {"text": ["a"], "weight": ["1"]}}, 400, "'weight'[0] must be DT_FLOAT"),
        ({"inputs": {"text": ["a"], "weight": [True]}}, 400, "DT_FLOAT"),
        ({"inputs": {"text": ["a"], "weight": [1e39]}}, 400, "DT_FLOAT"),
        ({"inputs": {"text": ["a"], "weight": [2**24 + 1]}}, 400, "DT_FLOAT"),
        ({"inputs": {"text": "a", "weight": [1]}}, 400, "shape (None,). Received: ()"),
        ({"signature_name": "types", "inputs": [[1, 2, 3], [4, 5]]}, 400, "'values'[1] must be a list of 3"),
        ({"signature_name": "types", "inputs": [[1, 2, 3], 4]}, 400, "'values'[1] must be a list of 3"),
        ({"signature_name": "check", "inputs": [2**31]}, 400, "DT_INT32"),
        ({"signature_name": "check", "inputs": [1.0]}, 400, "DT_INT32"),
        ({"signature_name": "check", "inputs": [3, -1]}, 400, "numbers must be positive"),
        ({"signature_name": "half", "inputs": [1]}, 400, "float16"),
        ({"signature_name": "total", "instances": [1, 2]}, 400, "batch size"),
        ({**OK, "signature_name": "nope"}, 400, "'nope'"),
        ({**OK, "signature_name": 3}, 400, "string"),
        ({"signature_name": "read", "inputs": ["/no/such/file"]}, 500, "/no/such/file"),
    ],
)
def test_wrong_bodies(ask, body, status, words):
    received, answer = ask("/v1/models/toy:predict", body)
    assert (received, list(answer)) == (status, ["error"])
    assert words in answer["error"]


def test_outputs_of_different_sizes_have_a_column_form(ask):
    body = {"signature_name": "total", "inputs": [1, 2]}
    assert predict(ask, body) == {"outputs": {"total": 3.0, "value": [1.0, 2.0]}}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/models/none:predict", OK, 404),
        ("/v1/models/toy/versions/11:predict", OK, 404),
        ("/v1/models/toy/versions/2:predict", OK, 404),
        ("/v1/models/..%2Ftoy:predict", OK, 404),
        ("/v1/models/none", None, 404),
        ("/v1/models/none/metadata", None, 404),
        ("/v1/models", None, 404),
        ("/", None, 404),
        ("/v2/models/toy:predict", OK, 404),
        ("/v1/models/toy:explain", OK, 404),
        ("/v1/models/toy:predict", None, 400),
        ("/v1/models/toy", OK, 400),
        ("/v1/models/toy:classify", {"examples": [{}]}, 400),
        ("/v1/models/toy:regress", {"examples": [{}]}, 400),
    ],
)
def test_wrong_paths(ask, path, body, status):
    received, answer = ask(path, body)
    assert (received, list(answer)) == (status, ["error"])


def test_other_methods_and_bodies_without_a_length(ask, server):
    received, answer = ask("/v1/models/toy", method="DELETE")
    assert (received, list(answer)) == (501, ["error"])
    for headers, status, words in (
        ({}, 400, "Content-Length"),
        ({"Content-Length": "-5"}, 400, "Content-Length"),
        ({"Content-Length": "1" * 5000}, 400, "Content-Length"),
        ({"Transfer-Encoding": "chunked", "Content-Length": "2"}, 400, "Content-Length"),
        ({"Content-Length": str(2**40)}, 413, str(2**40)),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
        connection.putrequest("POST", "/v1/models/toy:predict")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == status
        assert words in json.loads(response.read())["error"]
        connection.close()


def test_a_connection_is_kept_after_an_error(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
    for body, status in ((b"{", 400), (json.dumps(OK).encode(), 200)):
        connection.request("POST", "/v1/models/toy:predict", body)
        response = connection.getresponse()
        assert response.status == status
        response.read()
        assert connection.sock is not None
    connection.close()


def test_status(ask):
    def version(number):
        return {"version": number, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    assert ask("/v1/models/toy") == (200, {"model_version_status": [version("10")]})
    assert ask("/v1/models/toy/versions/10") == (200, {"model_version_status": [version("10")]})
    assert ask("/v1/models/toy/versions/2")[0] == 404


def test_metadata(ask):
    status, answer = ask("/v1/models/sentiment/versions/1/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "sentiment", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["text"]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert signature["outputs"]["score"]["dtype"] == "DT_FLOAT"
    assert signature["method_name"] == "tensorflow/serving/predict"
