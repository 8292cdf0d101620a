r"""Grad-CAM: where a small convolutional net looks when it scores a class.

The net is convolution → ReLU → global average → linear → softmax. With image x (zero-padded,
divided by `scale`), filters w_k, and N pixels,

.. math:: A^k_{ij} = \max(0, (w_k * x)_{ij} + b_k), \qquad
          s_c = \sum_k v_{kc} \frac{1}{N} \sum_{ij} A^k_{ij} + a_c, \qquad
          p = \mathrm{softmax}(s)

Grad-CAM (Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74) weighs the feature maps by the mean
gradient of the class score, taken before the softmax:

.. math:: \alpha_k = \frac{1}{N} \sum_{ij} \frac{\partial s_c}{\partial A^k_{ij}}, \qquad
          L_{ij} = \max\Big(0, \sum_k \alpha_k A^k_{ij}\Big)

Only the global average and the linear layer follow the maps, so ∂s_c/∂A^k_ij = v_kc/N in every
pixel: α_k = v_kc/N, and before its ReLU the map is the class-activation map of Zhou et al.
(2016, doi:10.1109/CVPR.2016.319) divided by N, and sums over the pixels to s_c - a_c.

A map shows what this net used. It does not say why the image is what it is; and it is worth
looking at only if it changes when the weights do (Adebayo et al. 2018,
doi:10.48550/arXiv.1810.03292): `randomise` and `map_similarity` make that check.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax, softmax
from scipy.stats import spearmanr

from course_lib.errors import (
    check_choice,
    check_count,
    check_finite,
    check_probability,
    check_rng,
    course_error,
)

__all__ = [
    "ClassMap",
    "Net",
    "class_scores",
    "feature_maps",
    "grad_cam",
    "loss_and_gradient",
    "map_similarity",
    "predict_proba",
    "randomise",
    "train_net",
]

BLOCKS = ("filters", "filter_bias", "weights", "bias")  # what is trained


@dataclass(frozen=True, eq=False)
class Net:
    """Parameters of the net; shapes with K filters, C classes.

    Attributes
    ----------
    filters, filter_bias : ndarray, shapes (K, width, width) and (K,)
        w_k and b_k of the convolution; width is odd.
    weights, bias : ndarray, shapes (K, C) and (C,)
        v_kc and a_c of the linear layer.
    scale : float
        Images are divided by it: the largest absolute pixel of the training images.
    image_shape : tuple of int
        Height and width of the images that the net takes.
    """

    filters: np.ndarray
    filter_bias: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    scale: float
    image_shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A Grad-CAM map of one image for one class.

    Attributes
    ----------
    target : int
        The class.
    score : float
        s_c, before the softmax.
    alpha : ndarray, shape (K,)
        Weight of each feature map.
    signed : ndarray, shape (height, width)
        Σ α_k A^k, any sign; sums to `score` less the class's bias.
    raw : ndarray, shape (height, width)
        max(0, signed): the map of the paper, from 0 upwards, in units of the score.
    normalised : ndarray, shape (height, width)
        `raw` divided by its maximum, from 0 to 1; all 0 if nothing speaks for the class.
        It hides how strong the evidence is: compare images by `raw`.
    """

    target: int
    score: float
    alpha: np.ndarray
    signed: np.ndarray
    raw: np.ndarray
    normalised: np.ndarray


def train_net(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int = 10,
    n_filters: int = 32,
    width: int = 5,
    n_epochs: int = 40,
    batch_size: int = 32,
    learning_rate: float = 0.02,
    rng: np.random.Generator,
) -> Net:
    """Train the net by Adam (Kingma & Ba 2015, doi:10.48550/arXiv.1412.6980) on mini-batches.

    Parameters
    ----------
    images : array_like, shape (n, height, width)
        Grey values, finite, in any unit.
    labels : array_like of int, shape (n,)
        Classes, 0 to ``n_classes - 1``; at least two of them.
    n_classes, n_filters, n_epochs, batch_size : int
        Numbers of classes and filters, passes over the data, and images per step.
    width : int
        Height and width of a filter in pixels, odd.
    learning_rate : float
        Step size at the start, between 0 and 1; it falls to 0 along a half cosine.
    rng : numpy.random.Generator
        Source of the starting values and of the order of the images.

    Returns
    -------
    Net
        The same for the same `rng`, but for rounding on another machine.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> images = rng.random((20, 8, 8))
    >>> labels = np.repeat([0, 1], 10)
    >>> net = train_net(images, labels, n_classes=2, n_filters=2, n_epochs=1, rng=rng)
    >>> net.filters.shape
    (2, 5, 5)

    See Also
    --------
    predict_proba : What the net answers.
    grad_cam : What it looks at.
    """
    images = _check_shape("images", images, ("n", "height", "width"))
    labels = _check_labels(labels, len(images), check_count("n_classes", n_classes, 2))
    _check_differ("images", images)
    _check_differ("labels", labels)
    check_count("n_filters", n_filters)
    check_count("n_epochs", n_epochs)
    check_count("batch_size", batch_size)
    if check_count("width", width) % 2 == 0:
        raise course_error("width", "must be odd", width, f"Try width={width + 1}.")
    check_probability("learning_rate", learning_rate)
    start = _draw(n_filters, width, n_classes, check_rng("rng", rng))
    net = Net(**start, scale=float(np.abs(images).max()), image_shape=images.shape[1:])
    mean, square = dict.fromkeys(BLOCKS, 0.0), dict.fromkeys(BLOCKS, 0.0)
    step, n_steps = 0, n_epochs * -(-len(images) // batch_size)
    for _ in range(n_epochs):
        order = rng.permutation(len(images))
        for first in range(0, len(images), batch_size):
            batch = order[first : first + batch_size]
            gradient = loss_and_gradient(net, images[batch], labels[batch])[1]
            step += 1
            rate = learning_rate * (1 + np.cos(np.pi * step / n_steps)) / 2
            updated = {}
            for name in BLOCKS:
                mean[name] = 0.9 * mean[name] + 0.1 * gradient[name]
                square[name] = 0.999 * square[name] + 0.001 * gradient[name] ** 2
                spread = np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8
                move = rate * mean[name] / (1 - 0.9**step) / spread
                updated[name] = getattr(net, name) - move
            net = replace(net, **updated)
    return net


def feature_maps(net: Net, images: np.ndarray) -> np.ndarray:
    """Return the feature maps A of images (formula: see the module).

    Parameters
    ----------
    net : Net
        From `train_net`.
    images : array_like, shape (n, height, width)
        Images in the unit of the training images.

    Returns
    -------
    ndarray, shape (n, height, width, K)
        One map per filter, 0 or more.

    Raises
    ------
    CourseError
        If `net` is no `Net`, or the images have another shape than it takes or a value that is
        not finite.

    Examples
    --------
    >>> filters = np.zeros((1, 3, 3))
    >>> filters[0, 1, 1] = 2.0  # copies the pixel, doubled
    >>> net = Net(filters, np.zeros(1), np.array([[6.0, -6.0]]), np.zeros(2), 4.0, (2, 3))
    >>> image = np.array([[0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    >>> feature_maps(net, image[None])[0, 0].tolist()
    [[0.0], [2.0], [0.0]]

    See Also
    --------
    class_scores : From maps to scores.
    """
    return _patches_and_maps(net, images)[1]


def class_scores(net: Net, maps: np.ndarray) -> np.ndarray:
    """Return the class scores s of feature maps, before the softmax (formula: see the module).

    Parameters
    ----------
    net : Net
        From `train_net`.
    maps : ndarray, shape (n, height, width, K)
        From `feature_maps`; changed ones show what the score would be without a region.

    Returns
    -------
    ndarray, shape (n, C)
        One score per image and class.

    Raises
    ------
    CourseError
        If `net` is no `Net`, or the maps have another number of filters or a value that is not
        finite.

    Examples
    --------
    >>> filters = np.zeros((1, 3, 3))
    >>> filters[0, 1, 1] = 2.0  # copies the pixel, doubled
    >>> net = Net(filters, np.zeros(1), np.array([[6.0, -6.0]]), np.zeros(2), 4.0, (2, 3))
    >>> image = np.array([[0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    >>> class_scores(net, feature_maps(net, image[None])).round(2).tolist()
    [[2.5, -2.5]]

    See Also
    --------
    feature_maps : The maps of images.
    predict_proba : From images to probabilities.
    """
    maps = _check_shape("maps", maps, ("n", "height", "width", len(_check_net(net).filters)))
    return maps.mean(axis=(1, 2)) @ net.weights + net.bias


def predict_proba(net: Net, images: np.ndarray) -> np.ndarray:
    """Return the class probabilities p of images (formula: see the module).

    Parameters
    ----------
    net : Net
        From `train_net`.
    images : array_like, shape (n, height, width)
        Images in the unit of the training images.

    Returns
    -------
    ndarray, shape (n, C)
        From 0 to 1; each row sums to 1.

    Raises
    ------
    CourseError
        If `net` is no `Net`, or the images have another shape than it takes or a value that is
        not finite.

    Examples
    --------
    >>> filters = np.zeros((1, 3, 3))
    >>> filters[0, 1, 1] = 2.0  # copies the pixel, doubled
    >>> net = Net(filters, np.zeros(1), np.array([[6.0, -6.0]]), np.zeros(2), 4.0, (2, 3))
    >>> image = np.array([[0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    >>> predict_proba(net, image[None]).round(2).tolist()
    [[0.99, 0.01]]

    See Also
    --------
    class_scores : The scores before the softmax.
    """
    return softmax(class_scores(net, feature_maps(net, images)), axis=1)


def loss_and_gradient(
    net: Net, images: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """Return the mean cross-entropy and its gradient, by name of the `Net`'s arrays.

    With d_c = (p_c - [c = label])/n of one image, ∂loss/∂A^k_ij = Σ_c v_kc d_c / N where
    A^k_ij > 0 and 0 elsewhere; filters and biases follow by the chain rule.

    Parameters
    ----------
    net : Net
        From `train_net`.
    images : array_like, shape (n, height, width)
        Images in the unit of the training images.
    labels : array_like of int, shape (n,)
        Classes, 0 to C - 1.

    Returns
    -------
    tuple of float and dict
        Loss in nats, and arrays of the shapes that they have in the `Net`.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    See Also
    --------
    train_net : Goes down this gradient.
    """
    patches, maps = _patches_and_maps(net, images)
    n, height, width, _ = maps.shape
    is_label = np.eye(len(net.bias))[_check_labels(labels, n, len(net.bias))]
    log_probability = log_softmax(class_scores(net, maps), axis=1)
    loss = -float((is_label * log_probability).sum()) / n
    to_scores = (np.exp(log_probability) - is_label) / n
    to_average = to_scores @ net.weights.T / (height * width)
    to_maps = (maps > 0) * to_average[:, np.newaxis, np.newaxis, :]
    to_filters = np.tensordot(to_maps, patches, axes=((0, 1, 2), (0, 1, 2)))
    return loss, {
        "filters": to_filters.reshape(net.filters.shape),
        "filter_bias": to_maps.sum(axis=(0, 1, 2)),
        "weights": maps.mean(axis=(1, 2)).T @ to_scores,
        "bias": to_scores.sum(axis=0),
    }


def grad_cam(net: Net, image: np.ndarray, target: int) -> ClassMap:
    """Return the Grad-CAM map of one image for one class (formula: see the module).

    Parameters
    ----------
    net : Net
        From `train_net`.
    image : array_like, shape (height, width)
        One image, in the unit of the training images.
    target : int
        Class to explain, 0 to C - 1; it need not be the predicted one.

    Returns
    -------
    ClassMap
        As large as the image, since the convolution pads it.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> filters = np.zeros((1, 3, 3))
    >>> filters[0, 1, 1] = 2.0  # copies the pixel, doubled
    >>> net = Net(filters, np.zeros(1), np.array([[6.0, -6.0]]), np.zeros(2), 4.0, (2, 3))
    >>> image = np.array([[0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    >>> grad_cam(net, image, 0).normalised.tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.25]]

    See Also
    --------
    map_similarity : Compare two maps.
    randomise : A net that has learned nothing.
    """
    image = _check_shape("image", image, _check_net(net).image_shape)
    target = check_count("target", target, 0)
    check_choice("target", target, range(len(net.bias)))
    maps = feature_maps(net, image[np.newaxis])
    alpha = net.weights[:, target] / image.size  # the mean of a gradient that is constant
    signed = maps[0] @ alpha
    raw = np.maximum(signed, 0)
    score = float(class_scores(net, maps)[0, target])
    return ClassMap(target, score, alpha, signed, raw, normalised=raw / (raw.max() or 1.0))


def randomise(net: Net, rng: np.random.Generator, *, layers: str = "all") -> Net:
    """Return the net with fresh starting values in place of what it has learnt.

    Parameters
    ----------
    net : Net
        From `train_net`.
    rng : numpy.random.Generator
        Source of the fresh values.
    layers : str
        Which layers lose what they learnt: ``"all"``, ``"linear"`` or ``"convolution"``.

    Returns
    -------
    Net
        For the parameter randomisation test of Adebayo et al. (2018): a map that stays the
        same was a picture of the image and not of the net.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> filters = np.zeros((1, 3, 3))
    >>> filters[0, 1, 1] = 2.0  # copies the pixel, doubled
    >>> net = Net(filters, np.zeros(1), np.array([[6.0, -6.0]]), np.zeros(2), 4.0, (2, 3))
    >>> image = np.array([[0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    >>> bool((randomise(net, np.random.default_rng(1)).filters == net.filters).all())
    False

    See Also
    --------
    grad_cam : Whose maps should change with the net.
    """
    _check_net(net)
    check_choice("layers", layers, ("all", "linear", "convolution"))
    n_filters, width, _ = net.filters.shape
    fresh = _draw(n_filters, width, len(net.bias), check_rng("rng", rng))
    chosen = {"all": BLOCKS, "convolution": BLOCKS[:2], "linear": BLOCKS[2:]}[layers]
    return replace(net, **{name: fresh[name] for name in chosen})


def map_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two maps' pixels.

    Parameters
    ----------
    first, second : array_like, of one shape
        Maps; pass the `signed` ones: a `raw` map can be 0 everywhere, and then has no ranks.

    Returns
    -------
    float
        From -1 to 1; ties get their mean rank.

    Raises
    ------
    CourseError
        If the shapes differ, a value is not finite, or a map is the same everywhere.

    Examples
    --------
    >>> first = np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> round(map_similarity(first, first**3), 6)
    1.0

    See Also
    --------
    grad_cam : What makes such maps.
    randomise : What to compare them with.
    """
    first = check_finite("first", first)
    second = _check_shape("second", second, first.shape)
    _check_differ("first", first)
    _check_differ("second", second)
    return float(spearmanr(first, second, axis=None).statistic)


def _draw(n_filters: int, width: int, n_classes: int, rng: np.random.Generator) -> dict:
    """Draw starting values: spread √(2/inputs) before a ReLU (He et al. 2015), √(1/K) after."""
    return {
        "filters": rng.normal(size=(n_filters, width, width)) * np.sqrt(2) / width,
        "filter_bias": np.zeros(n_filters),
        "weights": rng.normal(size=(n_filters, n_classes)) / np.sqrt(n_filters),
        "bias": np.zeros(n_classes),
    }


def _patches_and_maps(net: Net, images: object) -> tuple[np.ndarray, np.ndarray]:
    """Neighbourhood of every pixel, (n, height, width, width²), and A: here a mere product."""
    images = _check_shape("images", images, ("n", *_check_net(net).image_shape))
    width = net.filters.shape[1]
    edge = width // 2
    padded = np.pad(images / net.scale, ((0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(1, 2))
    patches = windows.reshape(*images.shape, width**2)
    columns = net.filters.reshape(len(net.filters), -1).T
    return patches, np.maximum(patches @ columns + net.filter_bias, 0)


def _check_net(net: object) -> Net:
    if not isinstance(net, Net):
        raise course_error("net", "must be a Net", f"{net!r:.60}", "Train one by train_net().")
    return net


def _check_shape(argument: str, values: object, shape: tuple[int | str, ...]) -> np.ndarray:
    """Return finite values of this shape; a length that is only named may be any but 0."""
    values = check_finite(argument, values)
    free = sum(isinstance(length, str) for length in shape)  # these come first
    if values.ndim != len(shape) or values.size == 0 or values.shape[free:] != shape[free:]:
        rule = f"must have the shape ({', '.join(map(str, shape))})"
        advice = "Crop or pad images; images[0] is one image, image[None] a stack of one."
        raise course_error(argument, rule, values.shape, advice)
    return values


def _check_differ(argument: str, values: np.ndarray) -> None:
    if np.ptp(values) == 0:
        advice = "Check what was passed; of a Grad-CAM map, take `signed`."
        raise course_error(argument, "must not be all the same", values.flat[0], advice)


def _check_labels(labels: object, n: int, n_classes: int) -> np.ndarray:
    labels = _check_shape("labels", labels, (n,))
    if not np.isin(labels, range(n_classes)).all():
        rule = f"must be whole numbers from 0 to {n_classes - 1}"
        raise course_error("labels", rule, np.unique(labels), "Renumber them.")
    return labels.astype(int)
