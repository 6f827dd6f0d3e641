"""The obvious, slow way to compute what the signal path computes: what the tests hold it against.

Nothing here shares code with rtgod. Loops are spelled out, matrices are dense, and nothing is computed incrementally.
"""

import math

import numpy as np
from scipy import ndimage, stats

# ---------------------------------------------------------------------------------------------------- rigid motion


def rigid(translation_mm, rotation_deg, centre_mm):
    """4 x 4: turn about z, then y, then x through `centre_mm`, then translate; world to world, in mm."""
    pose = np.eye(4)
    for axis, angle in zip((2, 1, 0), np.radians(rotation_deg)[::-1], strict=True):
        turn = np.eye(4)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[[i, i, j, j], [i, j, i, j]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
        pose = turn @ pose
    pose[:3, 3] = np.asarray(centre_mm) - pose[:3, :3] @ centre_mm + translation_mm
    return pose


def moved(image, affine, pose, volume_affine=None, volume_shape=None):
    """What the scanner sees of `image` once the head has moved by `pose`: quintic splines (scipy), edges repeated."""
    volume_affine = affine if volume_affine is None else volume_affine
    volume_shape = image.shape if volume_shape is None else volume_shape
    from_volume = np.linalg.inv(affine) @ np.linalg.inv(pose) @ volume_affine
    ijk = np.indices(volume_shape).reshape(3, -1)
    where = from_volume[:3, :3] @ ijk + from_volume[:3, 3:]
    return ndimage.map_coordinates(image.astype(float), where, order=5, mode="nearest").reshape(volume_shape)


def moved_by_sinc(image, affine, pose, radius=5):
    """The same by a sinc under a Hann window of that many voxels, edges repeated."""
    from_volume = np.linalg.inv(affine) @ np.linalg.inv(pose) @ affine
    where = (from_volume[:3, :3] @ np.indices(image.shape).reshape(3, -1) + from_volume[:3, 3:]).T
    taps = np.arange(1 - radius, radius + 1)
    neighbours = np.floor(where).astype(int)[:, :, np.newaxis] + taps
    distance = where[:, :, np.newaxis] - neighbours
    weights = np.sinc(distance) * np.cos(np.pi * distance / (2 * radius)) ** 2 * (np.abs(distance) < radius)
    weights /= weights.sum(axis=2, keepdims=True)
    i, j, k = (np.clip(neighbours[:, a], 0, n - 1) for a, n in enumerate(image.shape))
    total = np.zeros(len(where))
    for a in range(taps.size):
        for b in range(taps.size):
            row = image[i[:, a, np.newaxis], j[:, b, np.newaxis], k]
            total += weights[:, 0, a] * weights[:, 1, b] * (row * weights[:, 2]).sum(axis=1)
    return total.reshape(image.shape)


def framewise_displacement(before, after):
    """Power et al. 2012: sum of the absolute differences of six parameters, rotations as arcs on a 50 mm sphere."""
    total = 0.0
    for axis in range(3):
        total += abs(after.translation_mm[axis] - before.translation_mm[axis])
        total += abs(after.rotation_deg[axis] - before.rotation_deg[axis]) / 360 * 2 * math.pi * 50
    return total


def spm_matrix(translation_mm, rotation_rad):
    """SPM's `spm_matrix`: T Rx Ry Rz, with SPM's signs."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(rotation_rad), np.sin(rotation_rad)
    matrix = np.eye(4)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    matrix[:3, :3] = about_x @ about_y @ about_z
    matrix[:3, 3] = translation_mm
    return matrix


def mean_displacement(a, b, points_mm):
    """Mean distance in mm between where two 4 x 4 transforms put the same points (n_points, 3)."""
    points = np.column_stack([points_mm, np.ones(len(points_mm))])
    return float(np.linalg.norm((points @ (a - b).T)[:, :3], axis=1).mean())


# -------------------------------------------------------------------------------------------------- interpolation


def separable_smooth(image, kernels):
    """Convolve with one odd kernel along each axis; beyond the edge the outer voxel repeats."""
    out = image.astype(float)
    for axis, kernel in enumerate(kernels):
        radius = len(kernel) // 2
        padded = np.pad(out, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="edge")
        size = image.shape[axis]
        out = sum(w * np.take(padded, range(tap, tap + size), axis=axis) for tap, w in enumerate(kernel))
    return out


# ------------------------------------------------------------------------------------------------------ denoising


def drift_columns(n_volumes, cutoff_s, tr_s):
    """Constant, line and cosines of SPM's discrete cosine set down to a period of `cutoff_s`: (n_volumes, n)."""
    columns = [np.ones(n_volumes), np.array([(2 * t + 1) / n_volumes - 1 for t in range(n_volumes)])]
    order = 1
    while order <= 2 * n_volumes * tr_s / cutoff_s:
        columns.append([math.cos(math.pi * order * (2 * t + 1) / (2 * n_volumes)) for t in range(n_volumes)])
        order += 1
    return np.column_stack(columns)


def response(time_s, duration_s, peak_s=5, undershoot_s=15, ratio=1 / 6, step_s=0.001):
    """Double-gamma response to a block, its two densities from scipy, integrated by the midpoint rule."""
    back_s = np.arange(step_s / 2, 60, step_s)
    density = stats.gamma.pdf(back_s, peak_s + 1) - ratio * stats.gamma.pdf(back_s, undershoot_s + 1)
    answered = (time_s - back_s >= 0) & (time_s - back_s < duration_s)
    return float((density * answered).sum() * step_s / (1 - ratio))


def least_squares(Z, Y, prior_sd):
    """Coefficients (n_regressors, n_series) of batch least squares; a prior is one more observation of zero."""
    extra = np.diag(1 / np.asarray(prior_sd, float))
    rows, values = np.vstack([Z, extra]), np.vstack([Y, np.zeros((len(extra), Y.shape[1]))])
    return np.linalg.lstsq(rows, values, rcond=None)[0]


def whiten(values, sd, components, shrinkage):
    """Shrink a pattern along orthonormal directions, in units of `sd`."""
    z = values / sd
    for direction, share in zip(components.astype(float), shrinkage, strict=True):
        z = z + (share - 1) * (z @ direction) * direction
    return z * sd


def smooth_among(values, positions_mm, fwhm_mm):
    """Gaussian mean over the voxels that there are, within three standard deviations."""
    sd_mm = fwhm_mm / math.sqrt(8 * math.log(2))
    out = []
    for here in positions_mm:
        distance = np.linalg.norm(positions_mm - here, axis=1)
        weights = np.exp(-0.5 * (distance / sd_mm) ** 2) * (distance <= 3 * sd_mm + 1e-9)
        out.append((weights * values).sum() / weights.sum())
    return np.array(out)


# --------------------------------------------------------------------------------------------------------- windows


def block_of(index, run, shift_s):
    """The block whose span, `shift_s` late, holds the middle of volume `index`; None between blocks."""
    middle_s = (index + 0.5) * run.tr_s
    for position, block in enumerate(run.blocks):
        if block.onset_s + shift_s <= middle_s < block.onset_s + block.duration_s + shift_s:
            return position
    return None


# -------------------------------------------------------------------------------------------------------- decoding


def ridge(X, Y, alpha):
    """Primal ridge on z-scored X and Y (ddof = 1): weights (n_features, n_targets), solved feature by feature."""
    Xz, Yz = (X - X.mean(0)) / X.std(0, ddof=1), (Y - Y.mean(0)) / Y.std(0, ddof=1)
    return np.linalg.solve(Xz.T @ Xz + alpha * np.eye(X.shape[1]), Xz.T @ Yz)


def selected_ridge(X, y, n_voxels, alpha):
    """Ridge on the voxels of largest |r| with one unit, all z-scored: weights (n_voxels,), 0 elsewhere."""
    r = [np.corrcoef(x, y)[0, 1] for x in X.T]
    selected = np.argsort(-np.abs(r))[:n_voxels]
    weights = np.zeros(X.shape[1])
    weights[selected] = ridge(X[:, selected], y[:, np.newaxis], alpha)[:, 0]
    return weights


def sparse_regression(X, y, n_steps=2000):
    """Sparse linear regression of one unit, step by step as written down: weights (n_voxels,), 0 where pruned.

    `X` (n_samples, n_voxels) and `y` (n_samples,) are z-scored.
    """
    x, alive, A, W = X.T, np.arange(X.shape[1]), np.ones(X.shape[1]), np.zeros(X.shape[1])
    n_samples = len(y)
    for _ in range(n_steps):
        if n_samples >= len(x):
            gram = x @ x.T
            inverse = np.linalg.inv(gram + np.diag(1 / A))
            W = y @ x.T @ inverse
            G = np.diag(gram @ inverse)
        else:
            C = (x.T * A) @ x + np.eye(n_samples)
            inverse = np.linalg.inv(C)
            W = A * (x @ inverse @ y)
            G = A * np.array([voxel @ inverse @ voxel for voxel in x])
        noise = (y @ y - W @ (x @ y)) / n_samples
        A = np.sqrt(A * (W**2 / noise) / G)
        kept = A / A.max() > 1e-10
        x, alive, A, W = x[kept], alive[kept], A[kept], W[kept]
    weights = np.zeros(X.shape[1])
    weights[alive] = W
    return weights


def scores(decoded, candidates, layers):
    """Mean over layers of Fisher's z of Pearson's r over units, of features z-scored by the training moments."""
    total = np.zeros(len(next(iter(candidates.values()))))
    for name, features in candidates.items():
        mean, sd = layers[name].unit_mean.astype(float), layers[name].unit_sd.astype(float)
        for position, candidate in enumerate(features):
            r = np.corrcoef((decoded[name] - mean) / sd, (candidate - mean) / sd)[0, 1]
            total[position] += 0.5 * math.log((1 + r) / (1 - r))
    return total / len(candidates)


def concatenated_scores(decoded, candidates, layers):
    """Fisher's z of one r over the z-scored units of all layers."""
    z = np.concatenate([(decoded[n] - layers[n].unit_mean.astype(float)) / layers[n].unit_sd for n in candidates])
    rows = [(candidates[n] - layers[n].unit_mean.astype(float)) / layers[n].unit_sd for n in candidates]
    r = np.array([np.corrcoef(z, row)[0, 1] for row in np.concatenate(rows, axis=1)])
    return 0.5 * np.log((1 + r) / (1 - r))


def raw_scores(decoded, candidates):
    """Mean over layers of Fisher's z of Pearson's r over units, of activations as they are."""
    r = np.array([[np.corrcoef(decoded[n], row)[0, 1] for row in rows] for n, rows in candidates.items()])
    return (0.5 * np.log((1 + r) / (1 - r))).mean(axis=0)


def identification_accuracy(candidate_scores, true):
    """Share of the other candidates that the true one beats; a tie is half a win."""
    wins = 0.0
    for other, score in enumerate(candidate_scores):
        if other != true:
            wins += 1.0 if score < candidate_scores[true] else 0.5 if score == candidate_scores[true] else 0.0
    return wins / (len(candidate_scores) - 1)


def path_distances(pairs, a, b):
    """Fewest links up `parent child` pairs to a common ancestor and down; those without a parent share one, None."""
    parents = {}
    for parent, child in pairs:
        parents.setdefault(child, []).append(parent)

    def links_up(category):
        """To each ancestor: every way up is walked to its end."""
        links, ways = {}, [(category, 0)]
        for node, n in ways:
            links[node] = min(n, links.get(node, n))
            if node is not None:
                ways += [(parent, n + 1) for parent in parents.get(node, [None])]
        return links

    up, down = [links_up(category) for category in a], [links_up(category) for category in b]
    return [[min(u[node] + d[node] for node in u if node in d) for d in down] for u in up]


def combined_echoes(echoes, echoes_ms, t2star_ms):
    """Echoes averaged voxel by voxel with Posse's weights, TE · exp(−TE/T2*)."""
    weights = [echo_ms * math.e ** (-echo_ms / t2star_ms) for echo_ms in echoes_ms]
    combined = np.zeros(echoes[0].shape)
    for voxel in np.ndindex(*combined.shape):
        weighted = sum(weight * float(echo[voxel]) for echo, weight in zip(echoes, weights, strict=True))
        combined[voxel] = weighted / sum(weights)
    return combined
