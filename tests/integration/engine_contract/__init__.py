"""The contract of engines, held to every engine that can be had without a cluster."""
