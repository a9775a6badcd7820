import torch

from kdrun.utils.seeding import generator, seed_of, seeded


def test_a_seed_fits_63_bits_and_depends_on_every_part():
    seeds = {seed_of(*parts) for parts in [("order", 1, 0), ("order", 1, 1), ("order", 2, 0), ("split", 1, 0),
                                           ("order", 1), ("order", 0, 1), ("order", 10), ()]}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_the_same_in_every_process():
    # fixed here once: another value would silently change every stored network and every published number
    assert seed_of("weights", "student", 1) == 2211334372225982393


def test_generators_of_one_name_agree_and_of_two_names_do_not():
    first, again, other = (torch.rand(8, generator=generator(*parts)) for parts in [("a", 1), ("a", 1), ("a", 2)])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_generator_does_not_touch_the_global_one():
    before = torch.get_rng_state()
    torch.rand(8, generator=generator("a"))
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_draws_from_its_stream_whatever_came_before_and_leaves_no_trace():
    torch.manual_seed(0)
    with seeded("weights", 1):
        first = torch.rand(4)
    torch.rand(100)
    before = torch.get_rng_state()
    with seeded("weights", 1):
        again = torch.rand(4)
    with seeded("weights", 2):
        other = torch.rand(4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_leaves_no_trace_when_the_block_fails():
    before = torch.get_rng_state()
    try:
        with seeded("x"):
            torch.rand(1)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(before, torch.get_rng_state())
