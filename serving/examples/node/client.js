// gRPC from Node.js, with the descriptors that ../protoset.py writes:
//   npm install
//   node client.js tensorflow_serving.protoset localhost:8500 sentiment "a fine film" "dull and long"
// One JSON object for each text. With TLS: CA=server.crt.
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [protoset, target, name, ...texts] = process.argv.slice(2);
const protocol = protoLoader.loadFileDescriptorSetFromBuffer(fs.readFileSync(protoset), {
  enums: String,
  longs: Number,
});
const { PredictionService } = grpc.loadPackageDefinition(protocol).tensorflow.serving;

const credentials = process.env.CA
  ? grpc.credentials.createSsl(fs.readFileSync(process.env.CA))
  : grpc.credentials.createInsecure();
// One client for all requests: it holds the connection. The policy tries again where no server took the request.
const client = new PredictionService(target, credentials, {
  "grpc.service_config": JSON.stringify({
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: [
      {
        name: [{ service: "tensorflow.serving.PredictionService" }],
        retryPolicy: {
          maxAttempts: 4,
          initialBackoff: "0.1s",
          maxBackoff: "2s",
          backoffMultiplier: 2,
          retryableStatusCodes: ["UNAVAILABLE"],
        },
      },
    ],
  }),
});

// Read from descriptors, a map is what it is on the wire: a list of entries.
const request = {
  model_spec: { name },
  inputs: [
    {
      key: "text",
      value: {
        dtype: "DT_STRING",
        tensor_shape: { dim: [{ size: texts.length }] },
        string_val: texts.map((text) => Buffer.from(text, "utf8")),
      },
    },
  ],
};

client.Predict(request, { deadline: Date.now() + 10_000 }, (error, response) => {
  client.close();
  if (error) {
    console.error(`${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
    return;
  }
  const outputs = Object.fromEntries(response.outputs.map(({ key, value }) => [key, value]));
  const labels = outputs.label.string_val;
  const scores = outputs.score.float_val;
  texts.forEach((text, i) => {
    console.log(JSON.stringify({ text, label: labels[i].toString("utf8"), score: scores[i] }));
  });
});
