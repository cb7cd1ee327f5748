"""Helper package of the pruning labs: everything the notebooks use, by plain names."""

from importlib.metadata import version

from labkit.checkpoints import load_metadata, load_network, load_optimizer, save_network, save_optimizer
from labkit.claims import check_claims, show_prediction
from labkit.cnn import CNN
from labkit.data import Augmentation, Loader, augment, draw_augmentation, load_images, loaders
from labkit.metrics import AccuracyMetric, BaseMetric
from labkit.plots import (
    draw_accuracy_sparsity,
    draw_channel_norms,
    draw_digits,
    draw_groups,
    draw_kernels,
    draw_lines,
    draw_loss_test,
    draw_sparsity,
    draw_weight_histograms,
    first_drop,
)
from labkit.records import load_record, load_results, save_record
from labkit.runtime import footer, has_native_bfloat16, mixed_precision, models_dir, pick_device, set_seed, versions
from labkit.sparsity import (
    LayerSparsity,
    clone,
    effective_weight,
    prunable_layers,
    refresh_weights,
    sparsity,
    sparsity_report,
    sparsity_table,
    zero_channels,
)
from labkit.training import accuracy, reestimate_batchnorm, test_one_epoch, test_or_train, train_one_epoch

__version__ = version("labkit")

__all__ = [
    "CNN",
    "AccuracyMetric",
    "Augmentation",
    "BaseMetric",
    "LayerSparsity",
    "Loader",
    "accuracy",
    "augment",
    "check_claims",
    "clone",
    "draw_accuracy_sparsity",
    "draw_augmentation",
    "draw_channel_norms",
    "draw_digits",
    "draw_groups",
    "draw_kernels",
    "draw_lines",
    "draw_loss_test",
    "draw_sparsity",
    "draw_weight_histograms",
    "effective_weight",
    "first_drop",
    "footer",
    "has_native_bfloat16",
    "load_images",
    "load_metadata",
    "load_network",
    "load_optimizer",
    "load_record",
    "load_results",
    "loaders",
    "mixed_precision",
    "models_dir",
    "pick_device",
    "prunable_layers",
    "reestimate_batchnorm",
    "refresh_weights",
    "save_network",
    "save_optimizer",
    "save_record",
    "set_seed",
    "show_prediction",
    "sparsity",
    "sparsity_report",
    "sparsity_table",
    "test_one_epoch",
    "test_or_train",
    "train_one_epoch",
    "versions",
    "zero_channels",
]
