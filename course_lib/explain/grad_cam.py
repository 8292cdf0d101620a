r"""Grad-CAM: where a small convolutional net finds its evidence for a class.

The net is convolution → ReLU → mean of 2 × 2 → convolution → ReLU → mean of each map →
hidden layer → ReLU → scores → softmax. With the feature maps A of the second convolution, N
cells each,

.. math:: m_k = \frac{1}{N} \sum_{ij} A^k_{ij}, \qquad
          h_l = \max\Big(0, \sum_k u_{kl} m_k + d_l\Big), \qquad
          s_c = \sum_l v_{lc} h_l + a_c, \qquad p = \mathrm{softmax}(s)

Grad-CAM (Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74) weighs the feature maps by the mean
gradient of the class score, taken before the softmax:

.. math:: \alpha_k = \frac{1}{N} \sum_{ij} \frac{\partial s_c}{\partial A^k_{ij}}, \qquad
          L_{ij} = \max\Big(0, \sum_k \alpha_k A^k_{ij}\Big)

The hidden layer makes α differ from image to image. Where only a mean and one linear layer
follow the maps, it does not, and Grad-CAM is the class-activation map of Zhou et al. (2016,
doi:10.1109/CVPR.2016.319). Images and arithmetic are float32, for speed, in training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax, softmax

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
    "erase_squares",
    "feature_maps",
    "grad_cam",
    "loss_and_gradient",
    "predict_proba",
    "train_net",
]

# What is trained: filters, their constants, the hidden layer, the scores.
BLOCKS = ("first", "b", "second", "e", "hidden", "d", "output", "a")


@dataclass(frozen=True, eq=False)
class Net:
    """Parameters of the net; shapes with K filters, H hidden units, C classes.

    Attributes
    ----------
    first, b : ndarray, shapes (width, width, 1, K₁) and (K₁,)
        Filters and constants of the first convolution; the width is odd.
    second, e : ndarray, shapes (width, width, K₁, K) and (K,)
        The same of the second.
    hidden, d : ndarray, shapes (K, H) and (H,)
        u_kl and d_l of the hidden layer.
    output, a : ndarray, shapes (H, C) and (C,)
        v_lc and a_c of the scores.
    centre, scale : float
        Mean and standard deviation of the training images' pixels; images are standardised.
    image_shape : tuple of int
        Height and width of the images that the net takes, both even.
    """

    first: np.ndarray
    b: np.ndarray
    second: np.ndarray
    e: np.ndarray
    hidden: np.ndarray
    d: np.ndarray
    output: np.ndarray
    a: np.ndarray
    centre: float
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
    raw : ndarray, half the image's height and width
        L: from 0 upwards, in units of the score.
    heat : ndarray, shape of the image
        `raw` divided by its maximum, from 0 to 1, each cell over its 2 × 2 pixels; all 0 if
        nothing speaks for the class. It hides how strong the evidence is.
    hottest : tuple of int
        Row and column, in the image, of a pixel of the hottest cell.
    """

    target: int
    score: float
    alpha: np.ndarray
    raw: np.ndarray
    heat: np.ndarray
    hottest: tuple[int, int]


def train_net(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int = 2,
    n_filters: tuple[int, int] = (8, 16),
    n_hidden: int = 16,
    n_epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.01,
    rng: np.random.Generator,
) -> Net:
    """Train the net by Adam (Kingma & Ba 2015, doi:10.48550/arXiv.1412.6980) on mini-batches.

    Parameters
    ----------
    images : array_like, shape (n, height, width)
        Grey values, finite, in any unit; height and width even.
    labels : array_like of int, shape (n,)
        Classes, 0 to ``n_classes - 1``; at least two of them.
    n_classes, n_hidden, batch_size : int
        Numbers of classes and hidden units, and images per step.
    n_filters : tuple of two int
        Filters of the first convolution (5 × 5) and of the second (3 × 3).
    n_epochs : int
        Passes over the data; 0 gives a net that has learnt nothing.
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
    >>> net = train_net(images, labels, n_epochs=1, rng=rng)
    >>> predict_proba(net, images).shape
    (20, 2)

    See Also
    --------
    predict_proba : What the net answers.
    grad_cam : Where it found the evidence.
    """
    images = _check_shape("images", images, ("n", "height", "width"))
    if images.shape[1] % 2 or images.shape[2] % 2:
        advice = "Crop a row or a column."
        raise course_error("images", "must have even sides", images.shape[1:], advice)
    labels = _check_labels(labels, len(images), check_count("n_classes", n_classes, 2))
    _check_differ("images", images)
    _check_differ("labels", labels)
    if not isinstance(n_filters, tuple) or len(n_filters) != 2:
        advice = "Try n_filters=(8, 16)."
        raise course_error("n_filters", "must be a tuple of two counts", n_filters, advice)
    sizes = [check_count("n_filters", n) for n in n_filters]
    sizes += [check_count("n_hidden", n_hidden), n_classes]
    check_count("n_epochs", n_epochs, 0)
    check_count("batch_size", batch_size)
    check_probability("learning_rate", learning_rate)
    start = _draw(*sizes, check_rng("rng", rng))
    net = Net(**start, centre=images.mean(), scale=images.std(), image_shape=images.shape[1:])
    mean, square = dict.fromkeys(BLOCKS, 0.0), dict.fromkeys(BLOCKS, 0.0)
    step, n_steps = 0, n_epochs * -(-len(images) // batch_size)
    for _ in range(n_epochs):
        order = rng.permutation(len(images))
        for first in range(0, len(images), batch_size):
            batch = order[first : first + batch_size]
            gradient = _loss_and_gradient(net, images[batch], labels[batch], np.float32)[1]
            step += 1
            rate = learning_rate * (1 + np.cos(np.pi * step / n_steps)) / 2
            updated = {}
            for name in BLOCKS:
                mean[name] = 0.9 * mean[name] + 0.1 * gradient[name]
                square[name] = 0.999 * square[name] + 0.001 * gradient[name] ** 2
                spread = np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8
                updated[name] = (
                    getattr(net, name) - rate * mean[name] / (1 - 0.9**step) / spread
                )
            net = replace(net, **updated)
    return net


def feature_maps(net: Net, images: np.ndarray) -> np.ndarray:
    """Return the feature maps A of the second convolution (formula: see the module).

    Parameters
    ----------
    net : Net
        From `train_net`.
    images : array_like, shape (n, height, width)
        Images in the unit of the training images.

    Returns
    -------
    ndarray, shape (n, height / 2, width / 2, K)
        One map per filter, 0 or more.

    Raises
    ------
    CourseError
        If `net` is no `Net`, or the images have another shape than it takes or a value that is
        not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> images = rng.random((20, 8, 8))
    >>> net = train_net(images, np.repeat([0, 1], 10), n_epochs=0, rng=rng)
    >>> feature_maps(net, images).shape
    (20, 4, 4, 16)

    See Also
    --------
    class_scores : From maps to scores.
    """
    return _forward(net, images, float)["A"]


def class_scores(net: Net, maps: np.ndarray) -> np.ndarray:
    """Return the class scores s of feature maps, before the softmax (formula: see the module).

    Parameters
    ----------
    net : Net
        From `train_net`.
    maps : ndarray, shape (n, height, width, K)
        From `feature_maps`, or changed ones.

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
    >>> rng = np.random.default_rng(1)
    >>> images = rng.random((20, 8, 8))
    >>> net = train_net(images, np.repeat([0, 1], 10), n_epochs=0, rng=rng)
    >>> class_scores(net, feature_maps(net, images)).shape
    (20, 2)

    See Also
    --------
    feature_maps : The maps of images.
    predict_proba : From images to probabilities.
    """
    maps = _check_shape("maps", maps, ("n", "height", "width", len(_check_net(net).e)))
    hidden = np.maximum(maps.mean(axis=(1, 2)) @ net.hidden + net.d, 0)
    return hidden @ net.output + net.a


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
    >>> rng = np.random.default_rng(1)
    >>> images = rng.random((20, 8, 8))
    >>> net = train_net(images, np.repeat([0, 1], 10), n_epochs=0, rng=rng)
    >>> bool(np.allclose(predict_proba(net, images).sum(axis=1), 1))
    True

    See Also
    --------
    class_scores : The scores before the softmax.
    """
    return softmax(class_scores(net, feature_maps(net, images)), axis=1)


def loss_and_gradient(
    net: Net, images: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """Return the mean cross-entropy and its gradient, by name of the `Net`'s arrays.

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
    images = _check_shape("images", images, ("n", *_check_net(net).image_shape))
    labels = _check_labels(labels, len(images), len(net.a))
    return _loss_and_gradient(net, images, labels, float)


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
        One cell for every 2 × 2 pixels.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> images = rng.random((20, 8, 8))
    >>> net = train_net(images, np.repeat([0, 1], 10), n_epochs=0, rng=rng)
    >>> grad_cam(net, images[0], 1).heat.shape
    (8, 8)

    See Also
    --------
    feature_maps : What the map is a weighted sum of.
    """
    image = _check_shape("image", image, _check_net(net).image_shape)
    target = check_count("target", target, 0)
    check_choice("target", target, range(len(net.a)))
    found = _forward(net, image[np.newaxis], float)
    maps, active = found["A"][0], found["h"][0] > 0
    n_cells = maps.shape[0] * maps.shape[1]
    alpha = net.hidden @ (active * net.output[:, target]) / n_cells
    raw = np.maximum(maps @ alpha, 0)
    heat = np.kron(raw / (raw.max() or 1.0), np.ones((2, 2)))
    row, column = np.unravel_index(raw.argmax(), raw.shape)
    score = float(found["s"][0, target])
    return ClassMap(target, score, alpha, raw, heat, (2 * int(row), 2 * int(column)))


def erase_squares(images: np.ndarray, places: np.ndarray, side: int) -> np.ndarray:
    """Return copies of images with one grey square, to ask the net again.

    Parameters
    ----------
    images : array_like, shape (n, height, width)
        The images.
    places : array_like of int, shape (n, 2)
        Row and column about which the square of each image lies, such as `ClassMap.hottest`;
        at the edge it is moved inwards.
    side : int
        Pixels of its side, at most those of the image.

    Returns
    -------
    ndarray, shape (n, height, width)
        The square has the mean of its pixels.

    Raises
    ------
    CourseError
        If an argument breaks its rule.

    Examples
    --------
    >>> erase_squares([[[0, 1, 5], [2, 5, 5], [5, 5, 9]]], [(0, 0)], 2)[0].tolist()
    [[2.0, 2.0, 5.0], [2.0, 2.0, 5.0], [5.0, 5.0, 9.0]]

    See Also
    --------
    grad_cam : Finds the places.
    """
    images = _check_shape("images", images, ("n", "height", "width")).astype(float)
    places = _check_shape("places", places, ("n", 2))
    if len(places) != len(images):
        advice = "Give a row and a column per image."
        raise course_error("places", f"must be {len(images)}", len(places), advice)
    shape = np.array(images.shape[1:])
    if check_count("side", side) > shape.min():
        raise course_error("side", f"must be at most {shape.min()}", side, "Take less.")
    corners = np.clip(places - side // 2, 0, shape - side).astype(int)
    for image, (i, j) in zip(images, corners, strict=True):  # a copy, by astype
        image[i : i + side, j : j + side] = image[i : i + side, j : j + side].mean()
    return images


def _draw(n_first: int, n_second: int, n_hidden: int, n_classes: int, rng) -> dict:
    """Draw starting values: spread √(2/inputs) before a ReLU (He et al. 2015), √(1/H) after."""
    shapes = {
        "first": (5, 5, 1, n_first),
        "second": (3, 3, n_first, n_second),
        "hidden": (n_second, n_hidden),
        "output": (n_hidden, n_classes),
    }
    start = {}
    for (name, shape), constant in zip(shapes.items(), "beda", strict=True):
        variance = (1 if name == "output" else 2) / np.prod(shape[:-1])
        start[name] = rng.normal(size=shape) * np.sqrt(variance)
        start[constant] = np.zeros(shape[-1])
    return start


def _patches(maps: np.ndarray, width: int) -> np.ndarray:
    """Return the neighbourhood of every cell, (n, height, width, width² × K)."""
    n, height, wide, k = maps.shape
    edge = width // 2
    padded = np.pad(maps, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    windows = [padded[:, i : i + height, j : j + wide] for i, j in np.ndindex(width, width)]
    return np.stack(windows, axis=3).reshape(n, height, wide, width**2 * k)


def _back_from_patches(patches: np.ndarray, width: int, k: int) -> np.ndarray:
    """Return the gradient of the cells, given that of `_patches`."""
    n, height, wide, _ = patches.shape
    edge = width // 2
    padded = np.zeros((n, height + 2 * edge, wide + 2 * edge, k), dtype=patches.dtype)
    parts = patches.reshape(n, height, wide, width**2, k)
    for part, (i, j) in enumerate(np.ndindex(width, width)):
        padded[:, i : i + height, j : j + wide] += parts[:, :, :, part]
    return padded[:, edge : edge + height, edge : edge + wide]


def _forward(net: Net, images: object, kind: type) -> dict[str, np.ndarray]:
    """Return what each layer sees and answers."""
    images = _check_shape("images", images, ("n", *_check_net(net).image_shape))
    x = ((images - net.centre) / net.scale).astype(kind)[..., np.newaxis]
    block = {name: getattr(net, name).astype(kind) for name in BLOCKS}
    n, height, wide, _ = x.shape
    seen = {"x": _patches(x, len(net.first))}
    seen["B"] = np.maximum(seen["x"] @ block["first"].reshape(-1, len(net.b)) + block["b"], 0)
    halved = seen["B"].reshape(n, height // 2, 2, wide // 2, 2, -1).mean(axis=(2, 4))
    seen["halved"] = _patches(halved, len(net.second))
    filters = block["second"].reshape(-1, len(net.e))
    seen["A"] = np.maximum(seen["halved"] @ filters + block["e"], 0)
    seen["m"] = seen["A"].mean(axis=(1, 2))
    seen["h"] = np.maximum(seen["m"] @ block["hidden"] + block["d"], 0)
    return seen | {"s": seen["h"] @ block["output"] + block["a"]}


def _loss_and_gradient(
    net: Net, images: np.ndarray, labels: np.ndarray, kind: type
) -> tuple[float, dict[str, np.ndarray]]:
    """Compute `loss_and_gradient` in float or in float32, layer by layer from the end."""
    seen = _forward(net, images, kind)
    n = len(images)
    is_label = np.eye(len(net.a), dtype=kind)[labels]
    log_probability = log_softmax(seen["s"], axis=1)
    to_s = (np.exp(log_probability) - is_label) / n
    to_h = (to_s @ net.output.T.astype(kind)) * (seen["h"] > 0)
    to_m = to_h @ net.hidden.T.astype(kind)
    maps = seen["A"]
    to_maps = (maps > 0) * (to_m / (maps.shape[1] * maps.shape[2]))[:, np.newaxis, np.newaxis]
    flat = to_maps.reshape(-1, len(net.e))
    to_second = seen["halved"].reshape(len(flat), -1).T @ flat
    to_patches = to_maps @ net.second.reshape(-1, len(net.e)).T.astype(kind)
    to_halved = _back_from_patches(to_patches, len(net.second), len(net.b))
    to_first_maps = (seen["B"] > 0) * (to_halved.repeat(2, axis=1).repeat(2, axis=2) / 4)
    flat_first = to_first_maps.reshape(-1, len(net.b))
    to_first = seen["x"].reshape(len(flat_first), -1).T @ flat_first
    gradient = {
        "first": to_first.reshape(net.first.shape),
        "b": flat_first.sum(axis=0),
        "second": to_second.reshape(net.second.shape),
        "e": flat.sum(axis=0),
        "hidden": seen["m"].T @ to_h,
        "d": to_h.sum(axis=0),
        "output": seen["h"].T @ to_s,
        "a": to_s.sum(axis=0),
    }
    return -float((is_label * log_probability).sum()) / n, gradient


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
        advice = "Check what was passed."
        raise course_error(argument, "must not be all the same", values.flat[0], advice)


def _check_labels(labels: object, n: int, n_classes: int) -> np.ndarray:
    labels = _check_shape("labels", labels, (n,))
    if not np.isin(labels, range(n_classes)).all():
        rule = f"must be whole numbers from 0 to {n_classes - 1}"
        raise course_error("labels", rule, np.unique(labels), "Renumber them.")
    return labels.astype(int)
