"""Networks of diffusers and transformers, rebuilt from their configurations."""
