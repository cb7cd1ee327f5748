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
from labkit.progress import progress
from labkit.records import load_record, load_results, save_record
from labkit.runtime import footer, has_native_bfloat16, mixed_precision, models_dir, pick_device, set_seed, versions
from labkit.smaller.cost import (
    Latency,
    LayerCost,
    Ledger,
    ledger,
    ledger_table,
    ledgers,
    measure_latency,
    multiply_adds,
)
from labkit.smaller.onnx import OnnxNetwork, check_parity, export_onnx, quantize_onnx
from labkit.smaller.plots import draw_bars, draw_ledger, draw_maps, draw_sensitivity
from labkit.smaller.shrink import dead_channels, remove_dead_channels, silence_channels
from labkit.smaller.sparse_file import load_sparse, save_sparse
from labkit.smaller.widths import choose_by_norm, choose_by_sensitivity, choose_uniform, scan_sensitivity, with_channels
from labkit.sparsity import (
    LayerSparsity,
    as_tensor,
    bake_masks,
    by_layer,
    clone,
    compare_masks,
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
    "Latency",
    "LayerCost",
    "LayerSparsity",
    "Ledger",
    "Loader",
    "OnnxNetwork",
    "accuracy",
    "as_tensor",
    "augment",
    "bake_masks",
    "by_layer",
    "check_claims",
    "check_parity",
    "choose_by_norm",
    "choose_by_sensitivity",
    "choose_uniform",
    "clone",
    "compare_masks",
    "dead_channels",
    "draw_accuracy_sparsity",
    "draw_augmentation",
    "draw_bars",
    "draw_channel_norms",
    "draw_digits",
    "draw_groups",
    "draw_kernels",
    "draw_ledger",
    "draw_lines",
    "draw_loss_test",
    "draw_maps",
    "draw_sensitivity",
    "draw_sparsity",
    "draw_weight_histograms",
    "effective_weight",
    "export_onnx",
    "first_drop",
    "footer",
    "has_native_bfloat16",
    "ledger",
    "ledger_table",
    "ledgers",
    "load_images",
    "load_metadata",
    "load_network",
    "load_optimizer",
    "load_record",
    "load_results",
    "load_sparse",
    "loaders",
    "measure_latency",
    "mixed_precision",
    "models_dir",
    "multiply_adds",
    "pick_device",
    "progress",
    "prunable_layers",
    "quantize_onnx",
    "reestimate_batchnorm",
    "refresh_weights",
    "remove_dead_channels",
    "save_network",
    "save_optimizer",
    "save_record",
    "save_sparse",
    "scan_sensitivity",
    "set_seed",
    "show_prediction",
    "silence_channels",
    "sparsity",
    "sparsity_report",
    "sparsity_table",
    "test_one_epoch",
    "test_or_train",
    "train_one_epoch",
    "versions",
    "with_channels",
    "zero_channels",
]
