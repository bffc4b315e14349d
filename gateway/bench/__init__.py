"""What a request costs, beside other gateways on the same machine: ``thalamus bench``."""
