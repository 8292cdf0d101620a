from dataclasses import replace

import numpy as np
import pytest

from course_lib.errors import CourseError
from course_lib.explain.grad_cam import (
    BLOCKS,
    Net,
    class_scores,
    feature_maps,
    grad_cam,
    loss_and_gradient,
    map_similarity,
    predict_proba,
    randomise,
    train_net,
)

RNG = np.random.default_rng(8)
IMAGES = RNG.normal(size=(6, 4, 5))
LABELS = np.array([0, 1, 2, 2, 1, 0])


def random_net(shape=(4, 5), n_filters=3, n_classes=3, width=3):
    return Net(
        filters=RNG.normal(size=(n_filters, width, width)),
        filter_bias=RNG.normal(size=n_filters),
        weights=RNG.normal(size=(n_filters, n_classes)),
        bias=RNG.normal(size=n_classes),
        scale=2.0,
        image_shape=shape,
    )


NET = random_net()


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits  # here, as it takes a second to import

    bunch = load_digits()
    order = np.random.default_rng(1).permutation(len(bunch.target))
    return bunch.images, bunch.target, order[:1198], order[1198:]


@pytest.fixture(scope="module")
def digit_net(digits):
    images, labels, train, _ = digits
    return train_net(images[train], labels[train], rng=np.random.default_rng(1))


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


# Rounding leaves 1e-16/1e-6 = 1e-10 in a central difference; values are of order 1.
FINITE_DIFFERENCE = 1e-8


@pytest.mark.parametrize("block", BLOCKS)
def test_gradient_of_the_loss(block):
    gradient = loss_and_gradient(NET, IMAGES, LABELS)[1][block]
    expected = slope(
        lambda value: loss_and_gradient(replace(NET, **{block: value}), IMAGES, LABELS)[0],
        getattr(NET, block),
    )
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=FINITE_DIFFERENCE)


def test_loss_is_the_mean_negative_log_probability():
    chosen = predict_proba(NET, IMAGES)[np.arange(6), LABELS]
    assert loss_and_gradient(NET, IMAGES, LABELS)[0] == pytest.approx(-np.log(chosen).mean())


@pytest.mark.parametrize("target", [0, 1, 2])
def test_alpha_is_the_mean_gradient_of_the_score(target):
    maps = feature_maps(NET, IMAGES[:1])
    gradient = slope(lambda value: class_scores(NET, value)[0, target], maps)
    alpha = grad_cam(NET, IMAGES[0], target).alpha
    np.testing.assert_allclose(
        alpha, gradient[0].mean(axis=(0, 1)), rtol=0, atol=FINITE_DIFFERENCE
    )


def test_convolution_by_hand():
    net, image = NET, np.pad(IMAGES[0] / 2.0, 1)
    expected = [
        [
            [max(0, (image[i : i + 3, j : j + 3] * w).sum() + b) for w, b in filters]
            for j in range(5)
        ]
        for i in range(4)
        for filters in [list(zip(net.filters, net.filter_bias, strict=True))]
    ]
    np.testing.assert_allclose(feature_maps(net, IMAGES[:1])[0], expected, atol=1e-14)


def test_one_filter_by_hand():
    # The filter copies the pixel, doubled: A = 2 · image/4. The class weights are 6 and -6.
    filters = np.zeros((1, 3, 3))
    filters[0, 1, 1] = 2
    net = Net(filters, np.zeros(1), np.array([[6.0, -6.0]]), np.array([0.5, 0]), 4.0, (2, 3))
    image = np.array([[0, 4, 0], [-8, 0, 1.0]])
    cam = grad_cam(net, image, 0)
    assert cam.alpha == pytest.approx([1.0])  # 6 / 6 pixels
    np.testing.assert_allclose(cam.raw, [[0, 2, 0], [0, 0, 0.5]])
    np.testing.assert_allclose(cam.normalised, [[0, 1, 0], [0, 0, 0.25]])
    assert cam.score == pytest.approx(3.0)
    against = grad_cam(net, image, 1)
    np.testing.assert_allclose(against.signed, [[0, -2, 0], [0, 0, -0.5]])
    assert not against.raw.any()
    assert not against.normalised.any()


def test_map_is_the_class_activation_map_over_the_number_of_pixels():
    maps = feature_maps(NET, IMAGES[:1])[0]
    for target in range(3):
        cam = grad_cam(NET, IMAGES[0], target)
        class_activation = maps @ NET.weights[:, target]
        np.testing.assert_allclose(cam.signed, class_activation / 20, atol=1e-14)
        np.testing.assert_allclose(cam.raw, np.maximum(class_activation, 0) / 20, atol=1e-14)
        assert cam.signed.sum() == pytest.approx(cam.score - NET.bias[target])
        assert cam.raw.shape == (4, 5)
        assert cam.normalised.min() >= 0
        assert cam.normalised.max() == (1 if cam.raw.any() else 0)


def test_map_moves_with_the_image():
    net = random_net(shape=(12, 12))
    image = np.zeros((12, 12))
    image[4:7, 4:7] = RNG.normal(size=(3, 3))
    here = grad_cam(net, image, 1).signed
    there = grad_cam(net, np.roll(image, (2, -1), axis=(0, 1)), 1).signed
    assert np.ptp(here) > 0.01
    np.testing.assert_allclose(there, np.roll(here, (2, -1), axis=(0, 1)), atol=1e-14)


def test_probabilities():
    huge = replace(NET, weights=NET.weights * 1e6)  # must not overflow
    for net in (NET, huge):
        probability = predict_proba(net, IMAGES)
        assert probability.shape == (6, 3)
        np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert np.isfinite(loss_and_gradient(huge, IMAGES, LABELS)[0])


def test_net_reads_held_out_digits(digits, digit_net):
    images, labels, _, test = digits
    accuracy = (predict_proba(digit_net, images[test]).argmax(axis=1) == labels[test]).mean()
    assert accuracy > 0.93  # seeds 1 to 5 gave .945 to .970


def test_unit_of_the_images_does_not_matter():
    images, labels = RNG.uniform(size=(8, 4, 4)), np.arange(8) % 2
    nets = [
        train_net(images * unit, labels, n_classes=2, n_epochs=2, rng=np.random.default_rng(1))
        for unit in (1, 1024)
    ]
    np.testing.assert_allclose(nets[0].filters, nets[1].filters, rtol=1e-12)


def test_same_seed_same_net():
    images, labels = RNG.uniform(size=(9, 4, 4)), np.arange(9) % 2

    def train(seed):
        rng = np.random.default_rng(seed)
        return train_net(
            images, labels, n_classes=2, n_filters=2, width=3, batch_size=4, rng=rng
        )

    first, again, other = train(1), train(1), train(2)
    for block in BLOCKS:
        np.testing.assert_array_equal(getattr(first, block), getattr(again, block))
    assert not np.array_equal(first.filters, other.filters)


def test_training_keeps_the_images_and_labels():
    images, labels = RNG.uniform(size=(9, 4, 4)), np.arange(9) % 2
    before = images.copy(), labels.copy()
    train_net(images, labels, n_classes=2, n_epochs=1, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_random_weights_change_the_map(digits, digit_net):
    images, labels, _, test = digits
    rng = np.random.default_rng(2)
    for layers in ("all", "linear", "convolution"):
        blank = randomise(digit_net, rng, layers=layers)
        similarity = [
            map_similarity(
                grad_cam(digit_net, images[i], labels[i]).signed,
                grad_cam(blank, images[i], labels[i]).signed,
            )
            for i in test[:40]
        ]
        assert np.mean(similarity) < 0.5


def test_randomise_touches_only_the_layers_asked_for():
    rng = np.random.default_rng(3)
    kept = {"all": (), "linear": BLOCKS[:2], "convolution": BLOCKS[2:]}
    for layers, same in kept.items():
        blank = randomise(NET, rng, layers=layers)
        for block in BLOCKS:
            equal = np.array_equal(getattr(blank, block), getattr(NET, block))
            assert equal == (block in same)
        assert blank.scale == NET.scale


def test_similarity_is_a_rank_correlation():
    pixels = np.arange(6.0).reshape(2, 3)
    assert map_similarity(pixels, np.exp(pixels)) == pytest.approx(1)
    assert map_similarity(pixels, -pixels) == pytest.approx(-1)
    # by hand: ranks 1 2 3 against 2 1 3, 1 - 6·2/(3·8)
    assert map_similarity([1, 2, 3], [5, 4, 9]) == pytest.approx(0.5)


GOOD = {"images": IMAGES, "labels": LABELS, "n_classes": 3, "rng": np.random.default_rng(1)}
WITH_NAN = IMAGES.copy()
WITH_NAN[0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"images": IMAGES[0]}, r"images: must have the shape \(n, height, width\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images: must have the shape"),
        ({"images": WITH_NAN}, "images: must be finite"),
        ({"images": "digits"}, "images: must hold numbers"),
        ({"images": IMAGES * 0}, "images: must not be all the same"),
        ({"labels": LABELS[:5]}, r"labels: must have the shape \(6\)"),
        ({"labels": list("abcabc")}, "labels: must hold numbers"),
        ({"labels": LABELS + 0.5}, "labels: must be whole numbers from 0 to 2"),
        ({"labels": LABELS - 1}, "labels: must be whole numbers from 0 to 2"),
        ({"labels": LABELS + 1}, "labels: must be whole numbers from 0 to 2"),
        ({"labels": LABELS * 0}, "labels: must not be all the same"),
        ({"n_classes": 1}, "n_classes: must be a whole number of at least 2"),
        ({"n_filters": 0}, "n_filters"),
        ({"n_epochs": 1.5}, "n_epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"width": 4}, "width: must be odd"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"rng": 1}, "rng: must be a numpy.random.Generator"),
    ],
)
def test_bad_input_to_training(bad, match):
    with pytest.raises(CourseError, match=match):
        train_net(**(GOOD | bad))


@pytest.mark.parametrize(
    ("image", "target", "match"),
    [
        (IMAGES, 0, r"image: must have the shape \(4, 5\)"),
        (IMAGES[0, :3], 0, r"image: must have the shape \(4, 5\)"),
        (WITH_NAN[0], 0, "image: must be finite"),
        (IMAGES[0], 3, "target: must be one of"),
        (IMAGES[0], -1, "target: must be a whole number"),
        (IMAGES[0], True, "target: must be a whole number"),
        (IMAGES[0], 1.0, "target: must be a whole number"),
    ],
)
def test_bad_input_to_grad_cam(image, target, match):
    with pytest.raises(CourseError, match=match):
        grad_cam(NET, image, target)


@pytest.mark.parametrize(
    "call",
    [
        lambda: predict_proba(NET.filters, IMAGES),
        lambda: predict_proba(NET, IMAGES[:, :2]),
        lambda: predict_proba(NET, WITH_NAN),
        lambda: feature_maps(NET, IMAGES[0]),
        lambda: class_scores(None, feature_maps(NET, IMAGES)),
        lambda: class_scores(NET, feature_maps(NET, IMAGES)[0]),
        lambda: class_scores(NET, feature_maps(NET, IMAGES)[..., :1]),
        lambda: class_scores(NET, feature_maps(NET, IMAGES) * np.nan),
        lambda: loss_and_gradient(NET, IMAGES, LABELS + 1),
        lambda: grad_cam(None, IMAGES[0], 0),
        lambda: randomise(NET, 1),
        lambda: randomise(NET, np.random.default_rng(1), layers="top"),
        lambda: map_similarity(np.zeros((2, 2)), np.eye(2)),
        lambda: map_similarity(np.eye(2), np.eye(3)),
        lambda: map_similarity([], []),
    ],
)
def test_other_bad_input(call):
    with pytest.raises(CourseError):
        call()
