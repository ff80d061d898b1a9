// gRPC from Go, with the descriptors that ../protoset.py writes, so without generated code:
//
//	go mod tidy
//	go run . tensorflow_serving.protoset localhost:8500 sentiment "a fine film" "dull and long"
//
// One JSON object for each text. With TLS: CA=server.crt.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// One connection for all requests. The policy tries again where no server took the request.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "tensorflow.serving.PredictionService"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.1s",
      "maxBackoff": "2s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

type tensor struct {
	StringVal [][]byte  `json:"stringVal"`
	FloatVal  []float32 `json:"floatVal"`
}

func main() {
	if len(os.Args) < 5 {
		log.Fatalf("usage: %s PROTOSET HOST:PORT MODEL TEXT...", os.Args[0])
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		log.Fatal(err)
	}
}

func run(protoset, target, model string, texts []string) error {
	method, err := findPredict(protoset)
	if err != nil {
		return err
	}
	connection, err := connect(target)
	if err != nil {
		return err
	}
	defer connection.Close()

	request := dynamicpb.NewMessage(method.Input())
	if err := fill(request, model, texts); err != nil {
		return err
	}
	response := dynamicpb.NewMessage(method.Output())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := connection.Invoke(ctx, "/tensorflow.serving.PredictionService/Predict", request, response); err != nil {
		return err
	}
	return write(response, texts)
}

func findPredict(protoset string) (protoreflect.MethodDescriptor, error) {
	content, err := os.ReadFile(protoset)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(content, &set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	return predictOf(files)
}

func predictOf(files *protoregistry.Files) (protoreflect.MethodDescriptor, error) {
	found, err := files.FindDescriptorByName("tensorflow.serving.PredictionService")
	if err != nil {
		return nil, err
	}
	return found.(protoreflect.ServiceDescriptor).Methods().ByName("Predict"), nil
}

func connect(target string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{grpc.WithDefaultServiceConfig(serviceConfig)}
	if file := os.Getenv("CA"); file != "" {
		authority, err := credentials.NewClientTLSFromFile(file, "")
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithTransportCredentials(authority))
	} else {
		options = append(options, grpc.WithInsecure())
	}
	return grpc.Dial(target, options...)
}

// fill writes the request by way of its JSON form, in which bytes are base64.
func fill(request proto.Message, model string, texts []string) error {
	values := make([][]byte, len(texts))
	for i, text := range texts {
		values[i] = []byte(text)
	}
	content, err := json.Marshal(map[string]any{
		"modelSpec": map[string]any{"name": model},
		"inputs": map[string]any{"text": map[string]any{
			"dtype":       "DT_STRING",
			"tensorShape": map[string]any{"dim": []any{map[string]any{"size": len(texts)}}},
			"stringVal":   values,
		}},
	})
	if err != nil {
		return err
	}
	return protojson.Unmarshal(content, request)
}

func write(response proto.Message, texts []string) error {
	content, err := protojson.Marshal(response)
	if err != nil {
		return err
	}
	var answer struct {
		Outputs map[string]tensor `json:"outputs"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return err
	}
	labels, scores := answer.Outputs["label"].StringVal, answer.Outputs["score"].FloatVal
	if len(labels) != len(texts) || len(scores) != len(texts) {
		return fmt.Errorf("%d texts were answered with %d labels and %d scores", len(texts), len(labels), len(scores))
	}
	out := json.NewEncoder(os.Stdout)
	for i, text := range texts {
		line := map[string]any{"text": text, "label": string(labels[i]), "score": scores[i]}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
