"""A server's page of metrics, in today's and older spellings: what is missing is never zero."""

import pytest

from gateway.upstream.backend import BackendHandle
from gateway.upstream.health import FRESH_S, BackendHealth
from gateway.upstream.signals import AdapterResidency, Signals, read_samples, read_signals

PAGE = r"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="qwen"} 3.0
vllm:num_requests_running{engine="1",model_name="qwen"} 2.0
vllm:num_requests_waiting{engine="0",model_name="qwen"} 9.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwen",reason="capacity"} 4.0
vllm:num_requests_waiting_by_reason{engine="1",model_name="qwen",reason="capacity"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="qwen",reason="deferred"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="qwen"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="qwen"} 0.75
vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1.7e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="poet,clerk",waiting_lora_adapters="b"} 2e9
thalamus_moe_calls_total{layer="0",worker="0"} 10.0
thalamus_moe_calls_total{layer="1",worker="0"} 10.0
thalamus_moe_calls_created{layer="1",worker="0"} 1.8e9
thalamus_moe_tokens_total{layer="0",worker="0"} 50.0
thalamus_moe_tokens_total{layer="1",worker="0"} 50.0
thalamus_moe_slots_total{layer="0",worker="0"} 100.0
thalamus_moe_slots_not_computed_total{layer="0",worker="0"} 25.0
thalamus_moe_distinct_experts_total{layer="0",worker="0"} 40.0
thalamus_moe_busiest_expert_share{layer="0",worker="0"} 0.25
thalamus_moe_busiest_expert_share{layer="1",worker="0"} 0.5
"""


def test_load_is_summed_over_engines_and_the_fullest_cache_counts():
    found = read_signals(PAGE)
    assert (found.running, found.waiting, found.kv_usage) == (5.0, 5.0, 0.75)
    assert found.missing == ()


def test_older_spellings_are_read():
    found = read_signals(
        "vllm:num_requests_running 1\nvllm:num_requests_waiting 2\nvllm:gpu_cache_usage_perc 0.5\n"
    )
    assert (found.running, found.waiting, found.kv_usage) == (1.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("page", "missing"),
    [
        ("", ("running", "waiting", "kv_usage")),
        ("vllm:num_requests_running 0\n", ("waiting", "kv_usage")),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting{a} x\n<html>\n", 3),
        ('vllm:num_requests_waiting_by_reason{reason="deferred"} 4\n', 3),
    ],
)
def test_what_is_missing_is_unknown(page, missing):
    found = read_signals(page)
    assert (len(found.missing) if missing == 3 else found.missing) == missing
    assert found.says_nothing == (len(found.missing) == 3)
    assert found.adapters is None
    assert found.experts is None


TOTALS = """
vllm:prefix_cache_queries_total{engine="0",model_name="qwen"} 100.0
vllm:prefix_cache_queries_total{engine="1",model_name="qwen"} 50.0
vllm:prefix_cache_hits_total{engine="0",model_name="qwen"} 60.0
vllm:prefix_cache_hits_created{engine="0",model_name="qwen"} 1.8e9
vllm:external_prefix_cache_hits_total{engine="0",model_name="qwen"} 7.0
vllm:num_preemptions_total{engine="0",model_name="qwen"} 3.0
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="qwen"} 8.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="qwen"} 2.5
vllm:request_queue_time_seconds_count{engine="0",model_name="qwen"} 10.0
"""


@pytest.mark.parametrize("spelling", ["vllm:prefix_cache", "vllm:gpu_prefix_cache"])
def test_what_a_server_counts_is_summed_over_engines_in_either_spelling(spelling):
    found = read_signals(TOTALS.replace("vllm:prefix_cache", spelling)).totals
    assert found == {
        "prefix_queried_tokens": 150.0,
        "prefix_hit_tokens": 60.0,
        "preemptions": 3.0,
        "queue_seconds": 2.5,
        "queued_requests": 10.0,
    }
    assert read_signals("vllm:num_preemptions_total 0").totals == {"preemptions": 0.0}
    assert read_signals(PAGE).totals == {}, "what is not told is not zero"


def test_the_newest_residency_counts():
    assert read_signals(PAGE).adapters == AdapterResidency(
        frozenset({"poet", "clerk"}), frozenset({"b"}), 2
    )


def test_experts_work_is_summed_over_layers():
    found = read_signals(PAGE).experts
    assert (found.calls, found.tokens, found.slots, found.slots_not_computed) == (20, 100, 100, 25)
    assert (found.distinct_per_call, found.busiest_share) == (2.0, 0.5)


def signals(running=None, waiting=None, adapters=None):
    return Signals(running, waiting, None, adapters, None)


def test_pressure_counts_the_requests_of_others_and_ours_since():
    health = BackendHealth(inflight=2)
    assert health.pressure(0.0) == 2
    health.take_signals(signals(running=10.0, waiting=5.0), 100.0)
    assert health.pressure(100.0) == 15
    health.inflight = 5
    assert health.pressure(100.0 + FRESH_S) == 18
    assert health.pressure(100.1 + FRESH_S) == 5, "an old word says nothing"
    health.inflight = 0
    assert health.pressure(101.0) == 13


def test_pressure_is_never_less_than_ours():
    health = BackendHealth(inflight=4)
    health.take_signals(signals(running=0.0), 0.0)
    assert health.pressure(0.0) == 4
    health.take_signals(signals(waiting=9.0), 0.0)
    assert health.pressure(0.0) == 4, "who does not say how many run tells no load"


def test_an_adapter_is_at_work_where_its_server_says_so_lately():
    backend = BackendHandle("b", "poet", {}, None)
    assert not backend.has_adapter(0.0)
    resident = AdapterResidency(frozenset({"poet"}), frozenset(), 2)
    backend.health.take_signals(signals(adapters=resident), 0.0)
    assert backend.has_adapter(1.0)
    assert not backend.has_adapter(FRESH_S + 1)


def test_a_model_that_left_the_list_cannot_be_asked_until_it_returns():
    health = BackendHealth()
    health.note_listed(is_listed=False)
    assert health.is_usable(0.0), "many servers answer to names that they never list"
    health.note_listed(is_listed=True)
    assert health.is_usable(0.0)
    health.note_listed(is_listed=False)
    assert not health.is_usable(0.0)
    health.note_listed(is_listed=True)
    assert health.is_usable(0.0)


def test_what_nobody_asks_for_is_not_taken_apart():
    """Most of a page are histograms; a gateway reads one such page a second from each server."""
    bucket = 'vllm:e2e_request_latency_seconds_bucket{engine="0",le="%d",model_name="qwen"} 7.0\n'
    page = "".join(bucket % le for le in range(500)) + PAGE
    samples = read_samples(page)
    assert {name for name in samples if "bucket" in name} == set()
    assert read_signals(page) == read_signals(PAGE)
