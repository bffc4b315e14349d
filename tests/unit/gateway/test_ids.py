import multiprocessing
import re

from gateway.ids import new_id


def test_an_id_is_its_prefix_and_24_hexadecimal_digits():
    assert re.fullmatch("dec_[0-9a-f]{24}", new_id("dec_"))


def test_no_id_is_given_twice():
    assert len({new_id("") for _ in range(2_000)}) == 2_000


def _draw(count):
    return [new_id("") for _ in range(count)]


def test_a_forked_process_gives_other_ids():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = pool.apply(_draw, (300,))
    assert not {*theirs} & {*_draw(300)}
