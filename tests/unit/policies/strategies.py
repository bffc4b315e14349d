"""Random catalogues, flags and needs, for the laws that hold of all of them."""

from hypothesis import strategies as st

from policies.types import GOALS, Candidate, Exploration, Needs, Policy, RoutingFlags

CAPABILITIES = ("tools", "vision")
NAMES = tuple(f"m{i}" for i in range(8))
# Multiples of a power of two: so coarse that equal values are common, and that no rounding turns
# what is better in the objective into a tie.
steps = st.integers(0, 16)
qualities = steps.map(lambda step: step / 16)
amounts = steps.map(float)
maybe_amounts = st.none() | amounts


@st.composite
def catalogues(draw, is_all_usable=False, qualities=qualities, amounts=amounts):
    maybe_amounts = st.none() | amounts
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    return [
        Candidate(
            model=name,
            quality=draw(qualities),
            quality_low=0.0,
            quality_high=1.0,
            cost_usd=draw(maybe_amounts),
            output_tokens=draw(amounts),
            ttft_ms=draw(maybe_amounts),
            latency_ms=draw(maybe_amounts),
            context_tokens=draw(st.none() | steps),
            parameters_b=draw(maybe_amounts),
            released_day=draw(st.none() | steps),
            security_level=draw(st.none() | steps),
            readability=draw(st.none() | qualities),
            capabilities=draw(st.none() | st.frozensets(st.sampled_from(CAPABILITIES))),
            is_usable=is_all_usable or draw(st.booleans()),
            input_usd_per_mtok=draw(maybe_amounts),
            output_usd_per_mtok=draw(maybe_amounts),
        )
        for name in names
    ]


needs = st.builds(Needs, steps, st.frozensets(st.sampled_from(CAPABILITIES), max_size=1))
name_lists = st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple)


def flag_sets(on_infeasible="error"):
    return st.builds(
        RoutingFlags,
        weights=st.dictionaries(st.sampled_from(GOALS), st.floats(0, 100)),
        min_quality=st.none() | qualities,
        max_cost_usd=maybe_amounts,
        max_ttft_ms=maybe_amounts,
        max_latency_ms=maybe_amounts,
        max_input_usd_per_mtok=st.none() | maybe_amounts,
        max_output_usd_per_mtok=st.none() | maybe_amounts,
        allow=st.none() | name_lists,
        deny=st.just(()) | name_lists,
        on_infeasible=st.just(on_infeasible),
        willingness_to_pay_usd=st.none() | st.floats(0.001, 1),
    )


#: Any float that a prediction can be: what is written must read back as the same bits.
fine_catalogues = catalogues(
    qualities=st.floats(0, 1), amounts=st.floats(0, 1e12, allow_subnormal=True)
)

explorations = st.builds(
    Exploration,
    st.sampled_from(("epsilon", "thompson")),
    st.floats(0, 1),
    st.none() | st.floats(0, 2),
)
policies = st.builds(
    Policy,
    weights=st.none() | st.dictionaries(st.sampled_from(GOALS), st.floats(0, 100)),
    min_quality=st.none() | qualities,
    max_cost_usd=st.none() | amounts,
    exploration=st.none() | explorations,
)
