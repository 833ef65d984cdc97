"""Random programs of storage operations on real SRs, held against a plain model."""
