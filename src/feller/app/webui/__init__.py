"""Web page of `feller serve`, built with Gradio."""
