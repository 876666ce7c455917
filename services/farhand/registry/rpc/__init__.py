"""The registry's gRPC services: wire to core and back, thin over the store."""
