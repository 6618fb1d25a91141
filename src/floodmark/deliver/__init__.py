"""Delivery of landed tables to a receiver's landing zone."""
