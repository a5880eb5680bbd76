"""Workflows for speech models: parsing of requests, synthesis and evaluation."""
