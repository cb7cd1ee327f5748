"""Helper package of the pruning labs: everything the notebooks use, by plain names."""

from importlib.metadata import version

from labkit.checkpoints import (
    load_metadata,
    load_network,
    load_optimizer,
    load_other_seeds,
    save_network,
    save_optimizer,
)
from labkit.cnn import CNN
from labkit.data import Augmentation, Loader, augment, draw_augmentation, load_images, loaders
from labkit.files import load_record, load_results, save_record
from labkit.large.activations import layer_inputs, wanda_scores
from labkit.large.compensation import compensate
from labkit.large.heads import cut_units, unit_norms, without_units
from labkit.large.row_transformer import RowTransformer
from labkit.large.two_four import mask_2_4, pack_2_4, unpack_2_4
from labkit.metrics import AccuracyMetric, BaseMetric
from labkit.plots import (
    check_claims,
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
    median_and_worst,
    show,
    show_prediction,
    show_table,
)
from labkit.progress import progress
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
from labkit.smaller.plots import draw_bars, draw_ledger, draw_maps, draw_sensitivity, draw_speed
from labkit.smaller.shrink import dead_channels, remove_dead_channels, silence_channels
from labkit.smaller.sparse_file import load_sparse, save_sparse
from labkit.smaller.sparse_network import SparseNetwork, compile_sparse
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
from labkit.training import (
    accuracy,
    before_and_after,
    evaluate,
    fine_tune,
    reestimate_batchnorm,
    test_one_epoch,
    test_or_train,
    train,
    train_one_epoch,
)

__version__ = version("labkit")

# Every class and function of the imports above, classes first.
__all__ = sorted(
    (name for name, thing in globals().items() if getattr(thing, "__module__", "").startswith("labkit.")),
    key=lambda name: (not name[0].isupper(), not name.isupper(), name),
)
