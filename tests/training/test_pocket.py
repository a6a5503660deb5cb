"""The drawings, captions and checker behind Pocket."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from training.pocket import captions, checker, drawings, evaluate, scenes, tokens


def test_a_seed_gives_the_same_drawing() -> None:
    first, second = (scenes.sample(np.random.default_rng([4, 2])) for _ in range(2))
    assert first == second
    assert (drawings.render(first) == drawings.render(second)).all()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 160), (256, 256)])
def test_drawings_come_in_other_sizes(width: int, height: int) -> None:
    scene = scenes.sample(np.random.default_rng(1))
    assert drawings.render(scene, width, height).shape == (height, width, 3)


def test_training_never_shows_a_held_out_combination() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        scene = scenes.sample(rng)
        assert not any(scenes.held_out(t.shape, t.colour, scene.colour) for t in scene.things)


def test_a_fair_share_is_held_out() -> None:
    combinations = [
        scenes.held_out(shape, colour, background)
        for shape in scenes.SHAPES
        for colour in scenes.COLOURS
        for background in scenes.COLOURS
        if colour != background
    ]
    assert 0.06 < np.mean(combinations) < 0.11


def test_evaluation_asks_for_held_out_combinations_only() -> None:
    assert all(scenes.is_held_out(task.scene) for task in evaluate.tasks(40))


def test_captions_fit_and_use_trained_words_only() -> None:
    rng = np.random.default_rng(3)
    known = set(tokens.known())
    for _ in range(1500):
        found = tokens.ids(captions.caption(scenes.sample(rng), rng))
        assert len(found) <= 75
        assert set(found) <= known


def test_ordinary_phrasing_is_made_of_trained_words() -> None:
    known = set(tokens.known())
    for text in (
        "a red circle on a blue background",
        "a small red circle above a blue square on a green background",
        "three yellow stars",
        "blue background with a heart in the top left corner",
    ):
        assert set(tokens.ids(text)) <= known


def test_prompts_are_padded_as_in_sd1() -> None:
    ids = tokens.encode("a red circle").tolist()
    assert ids == [49406, 320, 736, 7117] + [49407] * 73


def test_checker_reads_true_drawings() -> None:
    rng = np.random.default_rng(11)
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for _ in range(60):
        scene = scenes.sample_any(rng)
        sight = checker.look(drawings.render(scene))
        answers = checker.agreement(scene, sight) | {"pattern": sight.kind == scene.kind}
        asked.update(answers)
        right.update({name: bool(answer) for name, answer in answers.items()})
    assert all(right[name] >= 0.98 * asked[name] for name in asked), (right, asked)


def test_checker_sees_what_is_wrong() -> None:
    rng = np.random.default_rng(5)
    asked, other = (scenes.sample_any(rng, "single") for _ in range(2))
    assert not all(checker.agreement(asked, checker.look(drawings.render(other))).values())
