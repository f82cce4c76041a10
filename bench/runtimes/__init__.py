"""What runs a net in place of torch: ONNX by onnxruntime, in float32 and in int8, and how near that comes."""
