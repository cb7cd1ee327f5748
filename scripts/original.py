"""The original lab's pipeline, kept to be measured against: PIL transforms in a DataLoader, its network, its loops.

Nothing in labkit uses this module. It follows the original in what it computes: per-image transforms, float32, NCHW
batches, ReLU before pooling, a softmax in the network under a cross-entropy that holds another one.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tqdm
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, RandomAffine, RandomCrop, ToTensor


class OriginalCNN(nn.Module):
    """The same layers as ``labkit.CNN``, ending in a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3)
        self.batch1, self.batch2, self.batch3 = nn.BatchNorm2d(32), nn.BatchNorm2d(64), nn.BatchNorm2d(128)
        self.fc = nn.Linear(128 * 5 * 5, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.batch1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.batch2(self.conv2(x))), 2)
        x = F.relu(self.batch3(self.conv3(x)))
        return F.softmax(self.fc(x.flatten(1)), dim=1)


class PilImages(Dataset):
    """The IDX files as torchvision's MNIST gives them: one PIL image at a time, transformed when asked for."""

    def __init__(self, folder: Path, part: str, transform: Compose | ToTensor) -> None:
        self.images = np.frombuffer(
            gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
        ).reshape(-1, 28, 28)
        self.labels = np.frombuffer(
            gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
        )
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def train_transform() -> Compose:
    """Its augmentation."""
    return Compose([RandomCrop(28, padding=4), RandomAffine(degrees=15, translate=(0.1, 0.1)), ToTensor()])


def original_loaders(folder: Path, batch_size: int = 64) -> tuple[DataLoader, DataLoader]:
    """Its training and test loaders."""
    train = DataLoader(PilImages(folder, "train", train_transform()), batch_size=batch_size, shuffle=True)
    return train, DataLoader(PilImages(folder, "t10k", ToTensor()), batch_size=batch_size)


@torch.no_grad()
def accuracy_of_batch(y_pred: torch.Tensor, y_ref: torch.Tensor) -> torch.Tensor:
    """Its metric."""
    return (torch.argmax(y_pred, dim=1) == y_ref).float().mean()


def train_one_epoch(model, train_loader, loss_fn, metric, optimizer, update_period, device) -> tuple[float, float]:
    """Its training loop."""
    model.train()
    total_loss, total_accuracy, samples = 0.0, 0.0, 0
    with tqdm.tqdm(train_loader, colour="red", ncols=100) as bar:
        for i, (X, y) in enumerate(bar):
            X, y = X.to(device), y.to(device)
            y_pred = model(X)
            loss = loss_fn(y_pred, y)
            loss.backward()
            if (i + 1) % update_period == 0:
                optimizer.step()
                optimizer.zero_grad()
            accuracy = metric(y_pred, y)
            total_loss += loss.item() * y.size(0)
            total_accuracy += accuracy.item() * y.size(0)
            samples += y.size(0)
            bar.set_postfix(loss=f"{total_loss / samples:.4f}", accuracy=f"{total_accuracy / samples:.4f}")
    return total_loss / samples, total_accuracy / samples


def test_one_epoch(model, test_loader, loss_fn, metric, device) -> tuple[float, float]:
    """Its evaluation loop."""
    model.eval()
    total_loss, total_accuracy, samples = 0.0, 0.0, 0
    with torch.no_grad(), tqdm.tqdm(test_loader, colour="green", ncols=100) as bar:
        for X, y in bar:
            X, y = X.to(device), y.to(device)
            y_pred = model(X)
            loss = loss_fn(y_pred, y)
            accuracy = metric(y_pred, y)
            total_loss += loss.item() * y.size(0)
            total_accuracy += accuracy.item() * y.size(0)
            samples += y.size(0)
            bar.set_postfix(loss=f"{total_loss / samples:.4f}", accuracy=f"{total_accuracy / samples:.4f}")
    return total_loss / samples, total_accuracy / samples
