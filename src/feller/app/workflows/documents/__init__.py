"""Workflows for document models: parsing of requests, generation and evaluation."""
