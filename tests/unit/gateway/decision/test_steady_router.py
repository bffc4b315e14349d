from gateway.config import parse_config
from gateway.decision.scoring import load_routers
from router_models.steady import SKIPPED

MODELS = {"smollm2-135m": {"backends": [{"url": "http://127.0.0.1:1/v1"}]}}


def test_the_router_reads_steadily_where_the_configuration_says_so():
    steady = load_routers(parse_config({"models": MODELS, "router": {"steady": True}}, "test"))
    plain = load_routers(parse_config({"models": MODELS}, "test"))
    assert set(steady.by_kind) == set(plain.by_kind) == {"perceptive", "retriever", "ensemble"}
    for kind, router in steady.by_kind.items():
        assert router.suite.skipped == SKIPPED
        named = "" if kind == "perceptive" else f"-{kind}"
        assert router.version == f"{plain.by_kind['perceptive'].version}-steady{named}"
        assert plain.by_kind[kind].suite.skipped != SKIPPED
