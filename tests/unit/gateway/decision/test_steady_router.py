from gateway.config import parse_config
from gateway.decision.scoring import load_router
from router_models.steady import SteadyRouter

MODELS = {"smollm2-135m": {"backends": [{"url": "http://127.0.0.1:1/v1"}]}}


def test_the_router_reads_steadily_where_the_configuration_says_so():
    steady = load_router(parse_config({"models": MODELS, "router": {"steady": True}}, "test"))
    plain = load_router(parse_config({"models": MODELS}, "test"))
    assert isinstance(steady, SteadyRouter)
    assert plain is not None
    assert steady.version == f"{plain.version}-steady"
    assert not isinstance(plain, SteadyRouter)
