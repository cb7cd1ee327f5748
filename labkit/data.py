"""Images and labels, checked, in memory, in batches.

Knows nothing of networks. MNIST lies in the repository as the four original IDX files, gzipped; Fashion-MNIST has the
same file names and format.
"""

import gzip
import hashlib
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from labkit import runtime

VALIDATION_IMAGES = 5_000

# SHA-256 of the uncompressed files.
CHECKSUMS = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


@dataclass(frozen=True)
class Augmentation:
    """Random parameters of B crops and affine maps, one a sample.

    Attributes:
        crop: (B, 2) int, 0..8: row and column of the 28 × 28 window in the image padded by 4.
        angle: (B,) float64, degrees in [-15, 15], clockwise as in torchvision.
        shift: (B, 2) int, pixels to the right and down, at most 10 % of the side, rounded.
    """

    crop: torch.Tensor
    angle: torch.Tensor
    shift: torch.Tensor


def draw_augmentation(batch: int, side: int, generator: torch.Generator) -> Augmentation:
    """Draw as ``RandomCrop(side, padding=4)`` and ``RandomAffine(degrees=15, translate=(0.1, 0.1))`` do.

    Args:
        batch: number of samples.
        side: height and width of the images, in pixels.
        generator: where the numbers come from.
    """
    crop = torch.randint(0, 9, (batch, 2), generator=generator)
    uniform = torch.rand((batch, 3), generator=generator, dtype=torch.float64) * 2 - 1
    return Augmentation(crop, angle=uniform[:, 0] * 15, shift=(uniform[:, 1:] * (0.1 * side)).round().long())


def augment(images: torch.Tensor, drawn: Augmentation) -> torch.Tensor:
    """Crop, rotate and shift a batch: the pixels that torchvision's transforms give on PIL images.

    Every output pixel is mapped back to the one input pixel that it shows (nearest neighbour; black from outside the
    cropped image), and one ``gather`` fetches them all. Pillow does this in 16.16 fixed-point numbers, and so do we:
    with floating point about 20 pixels in a million differ.

    Args:
        images: (B, side, side) uint8.
        drawn: parameters for B samples.

    Returns:
        (B, side, side) uint8, a copy.
    """
    batch, side, _ = images.shape
    centre = side / 2
    cos, sin = torch.deg2rad(drawn.angle).cos(), torch.deg2rad(drawn.angle).sin()
    right, down = drawn.shift.double().unbind(1)

    def fixed(numbers: torch.Tensor) -> torch.Tensor:
        return torch.floor(numbers * 65536 + 0.5).to(torch.int32)[:, None, None]

    along, across, back = fixed(cos), fixed(sin), fixed(-sin)
    # Pixel centres lie at half numbers: that is the (cos + sin) / 2.
    start_x = fixed(centre - cos * (centre + right) - sin * (centre + down) + (cos + sin) / 2)
    start_y = fixed(centre + sin * (centre + right) - cos * (centre + down) + (cos - sin) / 2)
    step = torch.arange(side, dtype=torch.int32)
    x, y = step[None, None, :], step[None, :, None]
    column = (start_x + along * x + across * y) >> 16  # (B, side, side)
    row = (start_y + back * x + along * y) >> 16
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)

    padded = F.pad(images, (4, 4, 4, 4)).flatten(1)  # (B, (side + 8)²); its first pixel is black
    window = (drawn.crop[:, 0] * (side + 8) + drawn.crop[:, 1]).to(torch.int32)[:, None, None]
    source = (row * (side + 8) + column + window) * inside
    return padded.gather(1, source.flatten(1).long()).view(batch, side, side)


@dataclass(eq=False, repr=False)
class Loader:
    """Batches of images and labels, from memory.

    Iterating gives ``(X, y)``: X (B, 1, side, side) float32 in [0, 1], stored channels-last, and y (B,) int64.
    Order and augmentation depend only on ``seed`` and ``epoch``, the number of finished passes; so neither another
    cell, nor a look at one batch, nor an interrupted pass changes what the next pass gives.

    Args:
        images: (N, side, side) uint8.
        labels: (N,) int64.
        batch_size: samples in a batch; the last one may be smaller.
        shuffle: whether each pass has a new order.
        augmented: whether each sample is cropped, rotated and shifted at random.
        seed: whole number >= 0.

    Raises:
        ValueError: shapes or numbers that do not fit.
    """

    images: torch.Tensor
    labels: torch.Tensor
    batch_size: int = 64
    _: KW_ONLY
    shuffle: bool = False
    augmented: bool = False
    seed: int = 0
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 3 or images.shape[1] != images.shape[2] or images.dtype != torch.uint8:
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; they must be uint8 (N, side, side)")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"labels are {tuple(labels.shape)} for {len(images)} images; they must be one per image")
        runtime.check_whole("batch_size", self.batch_size, 1)
        runtime.check_whole("seed", self.seed, 0)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        draws = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint32)
        generator = torch.Generator().manual_seed(int(draws[0]))
        count = len(self.labels)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for chosen in order.split(self.batch_size):
            X, y = self._batch(chosen, generator)
            X = X.unsqueeze(1).float().div_(255)  # (B, 1, side, side)
            # Convolutions on the CPU are faster on channels-last batches; the weights stay as they are, since
            # torch.nn.utils.prune cannot handle channels-last weights.
            yield X.to(memory_format=torch.channels_last), y
        self.epoch += 1

    def _batch(self, chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, side, side) uint8 and labels of the samples with these numbers."""
        X = self.images[chosen]
        if self.augmented:
            X = augment(X, draw_augmentation(len(X), X.shape[1], generator))
        return X, self.labels[chosen]

    def restart(self) -> None:
        """Give the batches of the first pass again."""
        self.epoch = 0

    def state_dict(self) -> dict[str, int]:
        """The number of finished passes: all that changes."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on after so many passes."""
        self.epoch = state_dict["epoch"]

    def first(self, count: int) -> "Loader":
        """A loader of the first ``count`` samples, in order and unchanged: for experiments that should cost little.

        Raises:
            ValueError: count is not in 1 .. number of samples.
        """
        runtime.check_whole("count", count, 1, len(self.labels))
        return Loader(self.images[:count], self.labels[:count], self.batch_size, seed=self.seed)


def loaders(name: str = "MNIST", batch_size: int = 64, seed: int = 0) -> tuple[Loader, Loader, Loader]:
    """Loaders for training (55,000, augmented, shuffled), validation (5,000) and test (10,000).

    The validation images are the last 5,000 of the training file: every choice is made on them, and the test images
    are read once per finished network. In quick mode (``LABKIT_QUICK=1``) there are 5,500 training images.

    Args:
        name: ``"MNIST"`` or ``"FashionMNIST"``.
        batch_size: samples in a batch.
        seed: of the order and the augmentation of the training images.

    Raises:
        ValueError: an unknown data set, or a damaged file that could not be replaced.
        FileNotFoundError: a missing file that could not be downloaded.
    """
    images, labels = load_images(name, train=True)
    training = len(images) - VALIDATION_IMAGES
    validation = Loader(images[training:], labels[training:], batch_size)
    if runtime.quick_mode():
        training //= 10
        print(f"QUICK MODE: {training:,} training images instead of 55,000; every number below will differ")
    # For people, as bars are: what is stored and compared must not depend on the processor.
    if runtime.bars_are_on() and runtime.precision(runtime.pick_device()) == "emulated bfloat16":
        print(runtime.EMULATED)
    train = Loader(images[:training], labels[:training], batch_size, shuffle=True, augmented=True, seed=seed)
    return train, validation, Loader(*load_images(name, train=False), batch_size)


def load_images(name: str = "MNIST", train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """All images (N, 28, 28) uint8 and labels (N,) int64 of one part of a data set.

    Raises:
        ValueError: an unknown data set, or a damaged file that could not be replaced.
        FileNotFoundError: a missing file that could not be downloaded.
    """
    if name not in CHECKSUMS:
        raise ValueError(f"data set is {name!r}; it must be one of {', '.join(CHECKSUMS)}")
    part = "train" if train else "t10k"
    return _read_idx(name, f"{part}-images-idx3-ubyte"), _read_idx(name, f"{part}-labels-idx1-ubyte").long()


def _read_idx(name: str, file: str) -> torch.Tensor:
    """The tensor in one IDX file, after its checksum has been verified (and a bad file replaced by a download)."""
    path, checksum = runtime.data_dir() / name / "raw" / f"{file}.gz", CHECKSUMS[name][file]
    problem: Exception = FileNotFoundError(f"{path} is missing")
    for copy in filter(Path.exists, (path, path.with_suffix(""))):
        try:
            content = _content(copy, checksum)
            break
        except ValueError as error:
            problem = error
    else:
        content = _download(name, path, checksum, problem)
    # Header: two zero bytes, type (unsigned byte), number of dimensions, then each dimension in four bytes. What stands
    # in it is known by the checksum: idx3 are images of 28 × 28 pixels, idx1 are labels.
    offset, shape = (16, (-1, 28, 28)) if "idx3" in file else (8, (-1,))
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=offset).view(shape)


def _content(path: Path, checksum: str) -> bytes:
    """Uncompressed content of FILE.gz or FILE; a ValueError says what is wrong with it."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != checksum:
        raise ValueError(f"{path} is damaged (SHA-256 is {digest[:12]}…, it must be {checksum[:12]}…)")
    return content


def _download(name: str, path: Path, checksum: str, problem: Exception) -> bytes:
    """Fetch FILE.gz from torchvision's mirrors and put it in place once its checksum is right."""
    # Imported only here: it takes longer than everything else that labkit imports, and most never download.
    from torchvision import datasets

    for mirror in getattr(datasets, name).mirrors:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / path.name
            try:
                torch.hub.download_url_to_file(f"{mirror}{path.name}", str(copy))
                content = _content(copy, checksum)
            except (OSError, ValueError, HTTPException):
                continue
            if path.exists():
                path.replace(f"{path}.damaged")
            with runtime.written_whole(path) as temporary:
                shutil.copyfile(copy, temporary)
            return content
    advice = "and no mirror gave a good copy; put the original file there (see data/README.md)"
    raise type(problem)(f"{problem}, {advice}")
