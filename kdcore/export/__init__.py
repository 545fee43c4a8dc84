"""A student as something to publish: its folder, its model card, an ONNX file, and answers from such a folder."""
