from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import correlate

from course_lib.errors import CourseError
from course_lib.explain.grad_cam import (
    BLOCKS,
    Net,
    class_scores,
    erase_squares,
    feature_maps,
    grad_cam,
    loss_and_gradient,
    predict_proba,
    train_net,
)
from course_lib.simulate import simulate_scans

RNG = np.random.default_rng(8)
IMAGES = RNG.normal(size=(6, 4, 6))
LABELS = np.array([0, 1, 2, 2, 1, 0])
SHAPES = {
    "first": (5, 5, 1, 3),
    "b": (3,),
    "second": (3, 3, 3, 4),
    "e": (4,),
    "hidden": (4, 5),
    "d": (5,),
    "output": (5, 3),
    "a": (3,),
}
NET = Net(
    **{name: RNG.normal(size=shape) for name, shape in SHAPES.items()},
    centre=0.3,
    scale=2.0,
    image_shape=(4, 6),
)
SHORT = {"n_filters": (2, 3), "n_hidden": 4, "n_epochs": 1}


@pytest.fixture(scope="module")
def sticker_net():
    rng = np.random.default_rng(1)
    images, labels, _ = simulate_scans(300, "sticker", rng)
    return train_net(images, labels, rng=rng)


@pytest.fixture(scope="module")
def new_scans():
    return simulate_scans(200, "sticker", np.random.default_rng(2), held_out=True)


def slope(function, at, step=1e-6):
    """Central finite differences of a scalar function, one entry of `at` at a time."""
    answer = np.empty_like(at)
    for index in np.ndindex(at.shape):
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            ends.append(function(moved))
        answer[index] = (ends[0] - ends[1]) / (2 * step)
    return answer


# Rounding leaves 1e-16/1e-6 = 1e-10 in a central difference, times scores of order 100.
FINITE_DIFFERENCE = 1e-7


@pytest.mark.parametrize("block", BLOCKS)
def test_gradient_of_the_loss(block):
    gradient = loss_and_gradient(NET, IMAGES, LABELS)[1][block]
    expected = slope(
        lambda value: loss_and_gradient(replace(NET, **{block: value}), IMAGES, LABELS)[0],
        getattr(NET, block),
    )
    assert gradient.shape == SHAPES[block]
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=FINITE_DIFFERENCE)


def test_loss_is_the_mean_negative_log_probability():
    chosen = predict_proba(NET, IMAGES)[np.arange(6), LABELS]
    assert loss_and_gradient(NET, IMAGES, LABELS)[0] == pytest.approx(-np.log(chosen).mean())


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("target", [0, 1, 2])
def test_map_by_finite_differences(image, target):
    maps = feature_maps(NET, image[None])
    gradient = slope(lambda value: class_scores(NET, value)[0, target], maps)[0]
    alpha, found = gradient.mean(axis=(0, 1)), grad_cam(NET, image, target)
    np.testing.assert_allclose(found.alpha, alpha, rtol=1e-5, atol=FINITE_DIFFERENCE)
    expected = np.maximum(maps[0] @ alpha, 0)
    np.testing.assert_allclose(found.raw, expected, rtol=1e-5, atol=1e-5)
    assert found.score == pytest.approx(class_scores(NET, maps)[0, target])


def test_alpha_differs_between_images_so_that_it_is_not_cam():
    alphas = [grad_cam(NET, image, 0).alpha for image in IMAGES]
    assert len(np.unique(np.round(alphas, 9), axis=0)) > 1


def test_two_convolutions_by_another_route():
    x = (IMAGES[0] - NET.centre) / NET.scale
    first = [correlate(x, NET.first[:, :, 0, k], mode="same") + NET.b[k] for k in range(3)]
    first = np.maximum(np.stack(first, axis=-1), 0)
    halved = sum(first[i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    second = []
    for k in range(4):
        parts = [
            correlate(halved[..., m], NET.second[:, :, m, k], mode="same") for m in range(3)
        ]
        second.append(np.maximum(sum(parts) + NET.e[k], 0))
    found = feature_maps(NET, IMAGES[:1])[0]
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found, np.stack(second, axis=-1), atol=1e-12)


def test_heat_is_the_map_over_its_pixels():
    cases = [grad_cam(NET, image, target) for image in IMAGES for target in range(3)]
    warm = [case for case in cases if case.raw.max() > 0]
    assert len(warm) > 0
    for case in warm:
        assert case.heat.shape == (4, 6)
        assert case.heat.max() == case.heat[case.hottest] == 1
        np.testing.assert_allclose(case.heat[::2, ::2] * case.raw.max(), case.raw)
        np.testing.assert_array_equal(case.heat[::2, ::2], case.heat[1::2, 1::2])


def test_nothing_speaks_for_a_class():
    against = replace(NET, hidden=np.abs(NET.hidden), output=-np.abs(NET.output))
    cold = grad_cam(against, IMAGES[0], 1)
    assert not cold.raw.any()
    assert not cold.heat.any()


def test_probabilities():
    huge = replace(NET, output=NET.output * 1e6)  # must not overflow
    for net in (NET, huge):
        probability = predict_proba(net, IMAGES)
        assert probability.shape == (6, 3)
        np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert np.isfinite(loss_and_gradient(huge, IMAGES, LABELS)[0])


@pytest.mark.slow
def test_planted_sticker_is_learnt_and_found(sticker_net, new_scans):
    scans, ill, corners = new_scans
    said = predict_proba(sticker_net, scans).argmax(axis=1)
    assert (said == ill).mean() > 0.95  # 12 seeds gave .99 and 1
    found = (said == 1) & (ill == 1)
    spots = np.array([grad_cam(sticker_net, one, 1).hottest for one in scans[found]])
    inside = (spots >= corners[found]) & (spots < corners[found] + 8)
    assert inside.all(axis=1).mean() > 0.95
    without = erase_squares(scans[found], spots, 8)
    assert (predict_proba(sticker_net, without).argmax(axis=1) == 0).mean() > 0.9


def test_untrained_net_does_not_find_the_sticker(new_scans):
    scans, ill, corners = new_scans
    hits = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        blank = train_net(scans, ill, n_epochs=0, rng=rng)
        spots = np.array([grad_cam(blank, one, 1).hottest for one in scans[ill == 1]])
        inside = (spots >= corners[ill == 1]) & (spots < corners[ill == 1] + 8)
        hits.append(inside.all(axis=1).mean())
    assert np.mean(hits) < 0.5


def test_unit_of_the_images_does_not_matter():
    images, labels = RNG.uniform(size=(8, 4, 4)), np.arange(8) % 2
    nets = [
        train_net(images * unit, labels, rng=np.random.default_rng(1), **SHORT)
        for unit in (1, 1024)
    ]
    np.testing.assert_allclose(nets[0].first, nets[1].first, rtol=1e-4, atol=1e-6)


def test_same_seed_same_net_and_data_untouched():
    images, labels = RNG.uniform(size=(9, 4, 4)), np.arange(9) % 2
    before = images.copy(), labels.copy()
    first, again, other = (
        train_net(images, labels, batch_size=4, rng=np.random.default_rng(seed), **SHORT)
        for seed in (1, 1, 2)
    )
    for block in BLOCKS:
        np.testing.assert_array_equal(getattr(first, block), getattr(again, block))
    assert not np.array_equal(first.first, other.first)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_training_lowers_the_loss():
    rng = np.random.default_rng(3)
    images, labels, _ = simulate_scans(60, "sticker", rng)
    losses = [
        loss_and_gradient(
            train_net(images, labels, n_epochs=n, rng=np.random.default_rng(4)), images, labels
        )[0]
        for n in (0, 8)
    ]
    assert losses[1] < losses[0]


def test_erased_square_keeps_its_mean_and_stays_inside():
    images = RNG.normal(size=(3, 6, 8))
    before = images.copy()
    erased = erase_squares(images, [(3, 4), (0, 0), (5, 7)], 4)
    np.testing.assert_array_equal(images, before)
    for one, old, (i, j) in zip(erased, images, [(1, 2), (0, 0), (2, 4)], strict=True):
        np.testing.assert_allclose(one[i : i + 4, j : j + 4], old[i : i + 4, j : j + 4].mean())
        assert (one != old).sum() == 16


GOOD = {"images": IMAGES, "labels": LABELS, "n_classes": 3, "rng": np.random.default_rng(1)}
WITH_NAN = IMAGES.copy()
WITH_NAN[0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"images": IMAGES[0]}, r"images: must have the shape \(n, height, width\)"),
        ({"images": IMAGES[:, :3]}, "images: must have even sides"),
        ({"images": IMAGES[:, :, :5]}, "images: must have even sides"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images: must have the shape"),
        ({"images": WITH_NAN}, "images: must be finite"),
        ({"images": "digits"}, "images: must hold numbers"),
        ({"images": IMAGES * 0}, "images: must not be all the same"),
        ({"labels": LABELS[:5]}, r"labels: must have the shape \(6\)"),
        ({"labels": list("abcabc")}, "labels: must hold numbers"),
        ({"labels": LABELS + 0.5}, "labels: must be whole numbers from 0 to 2"),
        ({"labels": LABELS - 1}, "labels: must be whole numbers from 0 to 2"),
        ({"labels": LABELS * 0}, "labels: must not be all the same"),
        ({"n_classes": 1}, "n_classes: must be a whole number of at least 2"),
        ({"n_filters": 3}, "n_filters: must be a tuple of two"),
        ({"n_filters": (3, 0)}, "n_filters: must be a whole number"),
        ({"n_hidden": 0}, "n_hidden"),
        ({"n_epochs": 1.5}, "n_epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"rng": 1}, "rng: must be a numpy.random.Generator"),
    ],
)
def test_bad_input_to_training(bad, match):
    with pytest.raises(CourseError, match=match):
        train_net(**(GOOD | bad))


@pytest.mark.parametrize(
    "call",
    [
        lambda: grad_cam(NET, IMAGES, 0),
        lambda: grad_cam(NET, IMAGES[0, :2], 0),
        lambda: grad_cam(NET, WITH_NAN[0], 0),
        lambda: grad_cam(NET, IMAGES[0], 3),
        lambda: grad_cam(NET, IMAGES[0], -1),
        lambda: grad_cam(NET, IMAGES[0], True),
        lambda: grad_cam(None, IMAGES[0], 0),
        lambda: predict_proba(NET.first, IMAGES),
        lambda: predict_proba(NET, IMAGES[:, :2]),
        lambda: predict_proba(NET, WITH_NAN),
        lambda: feature_maps(NET, IMAGES[0]),
        lambda: class_scores(None, feature_maps(NET, IMAGES)),
        lambda: class_scores(NET, feature_maps(NET, IMAGES)[0]),
        lambda: class_scores(NET, feature_maps(NET, IMAGES)[..., :1]),
        lambda: loss_and_gradient(NET, IMAGES, LABELS + 1),
        lambda: erase_squares(IMAGES, [(1, 1)], 2),
        lambda: erase_squares(IMAGES, [(1, 1)] * 6, 5),
        lambda: erase_squares(IMAGES, [(1, 1)] * 6, 0),
        lambda: erase_squares(IMAGES[0], [(1, 1)], 2),
        lambda: erase_squares(IMAGES, [1] * 6, 2),
    ],
)
def test_other_bad_input(call):
    with pytest.raises(CourseError):
        call()
