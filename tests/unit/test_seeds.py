"""One study seed governs all; names, not order, tell streams apart."""

from __future__ import annotations

from neuropipe.seeds import generator, job_seed, stage_generator


def test_same_words_give_the_same_stream():
    assert generator(7, "sub-1", "ntf", "fit", 2).integers(1 << 62) == generator(
        7, "sub-1", "ntf", "fit", 2
    ).integers(1 << 62)


def test_every_word_changes_the_stream():
    draws = {
        int(generator(*words).integers(1 << 62))
        for words in [
            (7, "sub-1", "ntf", "fit", 2),
            (8, "sub-1", "ntf", "fit", 2),
            (7, "sub-2", "ntf", "fit", 2),
            (7, "sub-1", "trsa", "fit", 2),
            (7, "sub-1", "ntf", "rank", 2),
            (7, "sub-1", "ntf", "fit", 3),
        ]
    }
    assert len(draws) == 6


def test_words_do_not_run_together():
    assert job_seed(1, "ab", "c") != job_seed(1, "a", "bc")


def test_a_notebook_repeats_a_job_with_the_seed_in_its_result():
    seed = job_seed(7, "sub-1", "ntf")
    assert 0 <= seed < 2**63
    a, b = generator(7, "sub-1", "ntf", "fit", 1), stage_generator(seed, "fit", 1)
    assert (a.random(5) == b.random(5)).all()
