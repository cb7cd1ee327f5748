"""Right answers as different people write them, for every task of every notebook.

``WORK[notebook][who]`` is one student: cell id -> the code that stands in the place of ``# YOUR CODE HERE``. An id with
``=`` behind it replaces the whole cell, one with ``+`` is a cell of the student's own behind that one.

*numpy* counts in arrays, *tensors* in 0-d and index tensors, *loops* in lists and plain Python; *library* lets the
library do it and takes its masks; *permanent* zeroes in place or makes masks permanent; *terse* writes one line;
*cautious* tries wrong ways first, asserts, prints and adds cells.
"""

# ruff: noqa: E501 - not everybody breaks long lines

WORK: dict[str, dict[str, dict[str, str]]] = {}

WORK["01_training"] = {
    "numpy": {
        "nb01-009": """
            import numpy as np

            sizes = np.array([np.prod(layer.weight.shape) for layer in labkit.prunable_layers(untrained).values()])
            work = dict(zip(labkit.prunable_layers(untrained), sizes * np.array([28, 14, 5, 1]) ** 2))
        """,
        "nb01-013": "prediction = np.float32(-np.log(1 / 10))",
        "nb01-020": """
            optimizer = torch.optim.SGD(CNN_MNIST.parameters(), lr=LEARNING_RATE)
            scheduler = LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=EPOCHS * len(train_loader))
            CNN_MNIST, history = labkit.test_or_train(CNN_MNIST, train_loader, validation_loader, loss_fn, metric,
                                                      optimizer, 1, EPOCHS, device, "both", None, scheduler, unfinished)
            history = {key: np.array(values) for key, values in history.items()}
        """,
    },
    "tensors": {
        "nb01-009": """
            sides = torch.tensor([28, 14, 5, 1])
            numbers = torch.tensor([getattr(untrained, n).weight.numel() for n in ("conv1", "conv2", "conv3", "fc")])
            counts = numbers * sides.square()
            work["fc"], work["conv3"], work["conv2"], work["conv1"] = counts.flip(0)
        """,
        "nb01-013": "prediction = torch.tensor(0.5)",
        "nb01-020": """
            opt = torch.optim.SGD(CNN_MNIST.parameters(), lr=LEARNING_RATE)
            decay = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 1 - step / (EPOCHS * len(train_loader)))
            CNN_MNIST, history = labkit.test_or_train(
                CNN_MNIST, train_loader, None, loss_fn, metric, opt, 1, EPOCHS, device, mode="train", scheduler=decay
            )
            _, checked = labkit.test_or_train(
                CNN_MNIST, None, validation_loader, loss_fn, metric, None, 1, 1, device, mode="test"
            )
            history["loss_test"], history["acc_test"] = checked["loss_test"], checked["acc_test"]
        """,
    },
    "loops": {
        "nb01-009": """
            work = []
            for inputs, outputs, side in ((1, 32, 28), (32, 64, 14), (64, 128, 5)):
                work.append(inputs * outputs * 9 * side * side)
            work.append(5 * 5 * 128 * 10)
        """,
        "nb01-013": "prediction = 0",
        "nb01-020": """
            opt = torch.optim.Adam(CNN_MNIST.parameters(), lr=0.002)
            history = {"loss_train": [], "acc_train": []}
            for epoch in range(EPOCHS):
                CNN_MNIST.train()
                for X, y in train_loader:
                    X, y = X.to(device), y.to(device)
                    logits = CNN_MNIST(X)
                    loss = loss_fn(logits, y)
                    opt.zero_grad()
                    loss.backward()
                    opt.step()
                history["loss_train"].append(loss)
                history["acc_train"].append((logits.argmax(1) == y).float().mean())
        """,
    },
    "library": {
        "nb01-009": "work = {cost.name: cost.multiply_adds for cost in labkit.multiply_adds(untrained)}",
        "nb01-013": "prediction = 1.4612",
        "nb01-020": """
            optimizer = torch.optim.SGD(CNN_MNIST.parameters(), LEARNING_RATE)
            scheduler = LinearLR(optimizer, 1, 0, EPOCHS * len(train_loader))
            history = labkit.test_or_train(CNN_MNIST, train_loader, validation_loader, loss_fn, metric, optimizer, 1,
                                           EPOCHS, device, mode="both", scheduler=scheduler)
        """,
    },
    "permanent": {  # trains in place, and keeps no history
        "nb01-009": """
            def count(name):
                def hook(layer, inputs, output):
                    work[name] = layer.weight.numel() * output[0].numel() // len(layer.weight)
                return hook

            hooks = [layer.register_forward_hook(count(name))
                     for name, layer in labkit.prunable_layers(untrained).items()]
            with torch.no_grad():
                untrained(X[:1])
            for hook in hooks:
                hook.remove()
        """,
        "nb01-013": "prediction = -torch.log_softmax(torch.tensor([1.0] + 9 * [0.0]), dim=0)[:1].numpy()",
        "nb01-020": """
            optimizer = torch.optim.SGD(CNN_MNIST.parameters(), lr=0.03, momentum=0.9)
            scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS * len(train_loader))
            for _ in range(EPOCHS):
                labkit.train_one_epoch(CNN_MNIST, train_loader, loss_fn, metric, optimizer, 1, device, scheduler)
        """,
    },
    "terse": {
        "nb01-009": "work = torch.tensor([288, 18_432, 73_728, 32_000]) * torch.tensor([28, 14, 5, 1]) ** 2",
        "nb01-013": "prediction = round(sum(map(lambda p: -p, [0, 0])), 3)",
        "nb01-020": """
            history |= labkit.test_or_train(CNN_MNIST, train_loader, validation_loader, loss_fn, metric,
                (optimizer := torch.optim.SGD(CNN_MNIST.parameters(), lr=0.1)), 1, 2 * EPOCHS, device, "both", 0.93,
                LinearLR(optimizer, 1, 0, 2 * EPOCHS * len(train_loader)))[1]
        """,
    },
    "cautious": {
        "nb01-009": """
            # first try: weights only
            work = {row.name: row.weights for row in labkit.sparsity_report(untrained)}
            print("not yet:", work)
            X_after = {"conv1": (28, 28), "conv2": (14, 14), "conv3": (5, 5), "fc": (1, 1)}
            for layer, (height, width) in X_after.items():
                work[layer] *= height * width
            assert set(work) == {"conv1", "conv2", "conv3", "fc"}
            work["together"] = sum(work.values())
            assert work["together"] == 5_713_664
        """,
        "nb01-009+": "print(work)\nassert len(work) >= 4",
        "nb01-013": "prediction = None\nprediction = 0.7",
        "nb01-020": """
            for epochs in (1, EPOCHS + 1):  # first one epoch, to see whether it runs at all
                labkit.set_seed(SEED)
                CNN_MNIST = CNN((1, 28, 28), 10).to(device)
                optimizer = torch.optim.SGD(CNN_MNIST.parameters(), lr=LEARNING_RATE)
                scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(train_loader))
                CNN_MNIST, history = labkit.test_or_train(
                    CNN_MNIST, train_loader, validation_loader, loss_fn, metric, optimizer, 1, epochs, device,
                    mode="both", scheduler=scheduler, checkpoint=unfinished,
                )
                print(epochs, history["acc_test"])
            assert history["acc_test"][-1] > 0.9
        """,
        "nb01-020+": "help(labkit.test_or_train)",
    },
}

WORK["02_random_pruning"] = {
    "numpy": {
        "nb02-006": """
            import numpy as np

            dice = np.random.default_rng(SEED + 1)
            mask_by_hand = np.ones(weight.numel())
            mask_by_hand[dice.choice(weight.numel(), weight.numel() // 4, replace=False)] = 0
            mask_by_hand = mask_by_hand.reshape(weight.shape)
        """,
        "nb02-008": """
            dice = np.random.default_rng(seed)
            for layer in (network.conv1, network.conv2, network.conv3):
                keep = np.ones(layer.weight.numel(), dtype=np.float32)
                keep[: round(AMOUNT * len(keep))] = 0
                dice.shuffle(keep)
                prune.custom_from_mask(layer, "weight", torch.from_numpy(keep.reshape(layer.weight.shape)))
        """,
        "nb02-014": "prediction = np.float64(0.6)",
    },
    "tensors": {
        "nb02-006": """
            gone = torch.randperm(weight.numel())[: weight.numel() // 4]
            mask_by_hand = torch.ones(weight.numel(), dtype=torch.long).index_fill(0, gone, 0).view_as(weight)
        """,
        "nb02-008": """
            for layer in [network.conv1, network.conv2, network.conv3]:
                gone = torch.randperm(layer.weight.numel())[: torch.tensor(AMOUNT * layer.weight.numel()).int()]
                mask = torch.ones(layer.weight.numel(), dtype=torch.int)
                mask[gone] = 0
                prune.custom_from_mask(layer, "weight", mask.view_as(layer.weight))
        """,
        "nb02-014": "prediction = torch.tensor([0.5], dtype=torch.double)",
    },
    "loops": {
        "nb02-006": """
            import random

            random.seed(SEED + 1)
            places = [(c, i, j) for c in range(32) for i in range(3) for j in range(3)]
            for c, i, j in random.sample(places, 72):
                mask_by_hand[c, 0, i, j] = 0
            mask_by_hand = mask_by_hand.int().tolist()
        """,
        "nb02-008": """
            for name in CONVOLUTIONS:
                prune.RandomUnstructured.apply(getattr(network, name), "weight", AMOUNT)
        """,
        "nb02-014": "prediction = 1",
    },
    "library": {
        "nb02-006": """
            copy = labkit.clone(CNN_MNIST)
            prune.random_unstructured(copy.conv1, name="weight", amount=72)
            mask_by_hand = copy.conv1.weight_mask
        """,
        "nb02-008": """
            for layer in (network.conv1, network.conv2, network.conv3):
                prune.random_unstructured(layer, "weight", AMOUNT)
        """,
        "nb02-014": "prediction = 0.75",
    },
    "permanent": {
        "nb02-006": """
            chosen = torch.multinomial(torch.ones(288), 72)
            mask_by_hand = ~torch.isin(torch.arange(288), chosen).view(32, 1, 3, 3)
        """,
        "nb02-008": """
            with torch.no_grad():
                for layer in (network.conv1, network.conv2, network.conv3):
                    lottery = torch.rand_like(layer.weight)
                    layer.weight[lottery <= lottery.flatten().kthvalue(layer.weight.numel() // 4).values] = 0
        """,
        "nb02-014": "prediction = torch.tensor(0.9).numpy()",
    },
    "terse": {
        "nb02-006": "mask_by_hand = (r := torch.rand_like(weight)) > r.quantile(AMOUNT)",
        "nb02-008": """
            [prune.remove(prune.random_unstructured(getattr(network, c), "weight", AMOUNT), "weight") for c in CONVOLUTIONS]
        """,
        "nb02-014": "prediction = (lambda keep: keep**3)(1 - AMOUNT)",
    },
    "cautious": {
        "nb02-006": """
            mask_by_hand = (torch.rand_like(weight) > AMOUNT).float()  # a coin each: about a quarter
            print("with coins:", int((mask_by_hand == 0).sum()))
            mask_by_hand = torch.ones_like(weight)
            while (mask_by_hand == 0).sum() < 72:
                where = tuple(torch.randint(size, ()).item() for size in weight.shape)
                mask_by_hand[where] = 0
            assert mask_by_hand.sum() == 216
            mask_by_hand = [row for row in mask_by_hand]
        """,
        "nb02-008": """
            prune.random_unstructured(network.conv1, name="weight", amount=1)  # one weight?
            prune.remove(network.conv1, "weight")
            network = labkit.clone(CNN_MNIST)
            labkit.set_seed(seed)
            for name in CONVOLUTIONS:
                layer = getattr(network, name)
                prune.random_unstructured(layer, name="weight", amount=AMOUNT)
                assert int((layer.weight == 0).sum()) == layer.weight.numel() // 4, name
            assert not hasattr(network.fc, "weight_mask")
        """,
        "nb02-act+": "dir(prune)\nassert labkit.sparsity(prune_at_random(3), CONVOLUTIONS) == 0.25",
        "nb02-014": "prediction = 0.4",
    },
}

WORK["03_l1_pruning"] = {
    "numpy": {
        "nb03-004": """
            import numpy as np

            sizes = {name: np.abs(weight.numpy()) for name, weight in weights.items()}
            for name, size in sizes.items():
                k = size.size // 4
                thresholds[name] = np.partition(size.ravel(), k - 1)[k - 1]
        """,
        "nb03-007": "masks_by_hand = {name: size > thresholds[name] for name, size in sizes.items()}",
        "nb03-act": """
            size = np.abs(layer.weight.detach().cpu().numpy())
            keep = np.ones(size.size)
            keep[np.argsort(size, axis=None)[: int(round(amount * size.size))]] = 0
            prune.custom_from_mask(layer, "weight", torch.from_numpy(keep.reshape(size.shape)))
        """,
        "nb03-011": "prediction = np.float16(0.9)",
    },
    "tensors": {
        "nb03-004": """
            for name, weight in weights.items():
                thresholds[name] = weight.abs().flatten().quantile(AMOUNT)
        """,
        "nb03-007": """
            for name in reversed(CONVOLUTIONS):
                smallest = weights[name].abs().flatten().topk(weights[name].numel() // 4, largest=False).indices
                masks_by_hand[name] = torch.ones(weights[name].numel()).scatter(0, smallest, 0.0).view_as(weights[name])
        """,
        "nb03-act": """
            count = torch.tensor(amount * layer.weight.numel()).round().int()
            smallest = layer.weight.abs().flatten().topk(count, largest=False).indices
            mask = torch.ones_like(layer.weight).flatten().index_fill(0, smallest, 0)
            prune.custom_from_mask(layer, name="weight", mask=mask.view_as(layer.weight))
        """,
        "nb03-011": "prediction = torch.tensor(0.93, dtype=torch.half)",
    },
    "loops": {
        "nb03-004": """
            for name in CONVOLUTIONS:
                values = sorted(abs(value) for value in weights[name].flatten().tolist())
                thresholds[name] = values[int(AMOUNT * len(values)) - 1]
        """,
        "nb03-007": """
            masks_by_hand = []
            for name in CONVOLUTIONS:
                channels = []
                for channel in weights[name]:
                    channels.append(channel.abs() > thresholds[name])
                masks_by_hand.append(channels)
        """,
        "nb03-act": """
            values = sorted(abs(value) for value in layer.weight.flatten().tolist())
            limit = values[int(amount * len(values)) - 1]
            mask = torch.zeros_like(layer.weight)
            for c in range(len(mask)):
                mask[c] = layer.weight[c].abs() > limit
            prune.custom_from_mask(layer, "weight", mask)
        """,
        "nb03-011": "prediction = 1",
    },
    "library": {
        "nb03-004": """
            pruned = labkit.clone(CNN_MNIST)
            for name in CONVOLUTIONS:
                layer = prune.l1_unstructured(getattr(pruned, name), "weight", AMOUNT)
                thresholds[name] = layer.weight_orig[layer.weight_mask == 0].abs().max()
        """,
        "nb03-007": "masks_by_hand = {name: getattr(pruned, name).weight_mask for name in CONVOLUTIONS}",
        "nb03-act": "return prune.L1Unstructured.apply(layer, 'weight', amount)",
        "nb03-011": "prediction = 0.99",
    },
    "permanent": {
        "nb03-004": """
            for name, weight in weights.items():
                thresholds[name] = float(weight.abs().view(-1).sort()[0][weight.numel() // 4 - 1])
        """,
        "nb03-007": """
            for name, mask in masks_by_hand.items():
                mask[weights[name].abs() <= thresholds[name]] = 0
                masks_by_hand[name] = mask.to(torch.int8)
        """,
        "nb03-act": """
            with torch.no_grad():
                size = layer.weight.abs()
                layer.weight[size <= size.flatten().kthvalue(round(amount * size.numel())).values] = 0
        """,
        "nb03-011": "prediction = 0.5",
    },
    "terse": {
        "nb03-004": "thresholds |= {n: w.abs().flatten().sort().values[w.numel() // 4 - 1] for n, w in weights.items()}",
        "nb03-007": """
            rank = lambda w: w.abs().flatten().argsort().argsort().view_as(w) / w.numel()
            masks_by_hand = tuple((rank(w) >= AMOUNT).double() for w in weights.values())
        """,
        "nb03-act": """
            prune.remove(prune.custom_from_mask(layer, "weight", rank(layer.weight) >= amount), "weight")
        """,
        "nb03-011": "prediction, *_ = 0.8, 0.9",
    },
    "cautious": {  # without the task that gives no points
        "nb03-007": """
            masks_by_hand = {name: (weight > 0.01).float() for name, weight in weights.items()}  # no: the sign
            for name, mask in masks_by_hand.items():
                print(name, "masked:", int((mask == 0).sum()), "of", mask.numel())
            thresholds_here = {name: weight.abs().flatten().kthvalue(weight.numel() // 4)[0]
                               for name, weight in weights.items()}
            for name, weight in weights.items():
                masks_by_hand[name] = torch.where(weight.abs() > thresholds_here[name], 1, 0)
                assert (masks_by_hand[name] == 0).sum() == weight.numel() // 4
        """,
        "nb03-act": """
            if not 0 < amount < 1:
                raise ValueError(f"amount is {amount}")
            prune.l1_unstructured(layer, name="weight", amount=amount)
            zeros = int((layer.weight == 0).sum())
            assert zeros == round(amount * layer.weight.numel()), zeros
        """,
        "nb03-act+": "test = torch.nn.Linear(10, 10)\nprune_smallest(test, 0.5)\nprint(test.weight)",
        "nb03-011": "prediction = 0.97",
    },
}

WORK["04_structured_pruning"] = {
    "numpy": {
        "nb04-004": """
            import numpy as np

            for name, weight in weights.items():
                norms[name] = np.linalg.norm(weight.numpy().reshape(len(weight), -1), axis=1)
                doomed[name] = np.argsort(norms[name])[: len(weight) // 8]
        """,
        "nb04-008": """
            for name, weight in weights.items():
                masks_by_hand[name] = np.ones(weight.shape, dtype=bool)
                masks_by_hand[name][doomed[name]] = False
        """,
        "nb04-act": """
            w = layer.weight.detach().numpy()
            length = np.sqrt((w.reshape(len(w), -1) ** 2).sum(axis=1))
            keep = np.ones_like(w)
            keep[length.argsort()[: round(amount * len(w))]] = 0
            prune.custom_from_mask(layer, "weight", torch.tensor(keep))
        """,
        "nb04-015": "prediction = np.array(0.95)",
    },
    "tensors": {
        "nb04-004": """
            for name, weight in weights.items():
                norms[name] = torch.linalg.vector_norm(weight, dim=(1, 2, 3))
                doomed[name] = norms[name].topk(len(weight) // 8, largest=False).indices
        """,
        "nb04-008": """
            for name, weight in weights.items():
                masks_by_hand[name] = torch.ones_like(weight).index_fill(0, doomed[name], 0)
        """,
        "nb04-act": """
            length = layer.weight.detach().pow(2).sum(dim=(1, 2, 3)).sqrt()
            limit = length.kthvalue(round(amount * len(length))).values
            prune.custom_from_mask(layer, "weight", (length > limit)[:, None, None, None] * torch.ones_like(layer.weight))
        """,
        "nb04-015": "prediction = torch.tensor(1)",
    },
    "loops": {
        "nb04-004": """
            for name in CONVOLUTIONS:
                norms[name] = []
                for channel in weights[name]:
                    norms[name].append(sum(w * w for w in channel.flatten().tolist()) ** 0.5)
                limit = sorted(norms[name])[len(norms[name]) // 8 - 1]
                doomed[name] = {c for c, norm in enumerate(norms[name]) if norm <= limit}
        """,
        "nb04-008": """
            masks_by_hand = {}
            for name in ("conv3", "conv2", "conv1"):
                masks_by_hand[name] = []
                for c, channel in enumerate(weights[name]):
                    masks_by_hand[name].append(torch.zeros_like(channel) if c in doomed[name] else torch.ones_like(channel))
        """,
        "nb04-act": """
            lengths = [channel.norm().item() for channel in layer.weight]
            order = sorted(range(len(lengths)), key=lambda c: lengths[c])
            mask = torch.ones_like(layer.weight)
            for c in order[: round(amount * len(order))]:
                mask[c] = 0
            prune.custom_from_mask(layer, "weight", mask)
        """,
        "nb04-015": "prediction = 0",
    },
    "library": {
        "nb04-004": """
            pruned = labkit.clone(CNN_MNIST)
            for name in CONVOLUTIONS:
                prune.ln_structured(getattr(pruned, name), "weight", AMOUNT, n=2, dim=0)
                norms[name] = weights[name].flatten(1).norm(dim=1)
                doomed[name] = labkit.zero_channels(getattr(pruned, name))
        """,
        "nb04-008": "masks_by_hand = {name: getattr(pruned, name).weight_mask for name in CONVOLUTIONS}",
        "nb04-act": "prune.LnStructured.apply(layer, 'weight', amount, 2, 0)",
        "nb04-015": "prediction = 0.9",
    },
    "permanent": {
        "nb04-004": """
            for name, weight in weights.items():
                norms[name] = weight.reshape(len(weight), -1).norm(dim=1, dtype=torch.double)
                doomed[name] = norms[name].sort().indices[: len(weight) // 8].sort().values.numpy()
        """,
        "nb04-008": """
            for name, mask in masks_by_hand.items():
                mask[torch.from_numpy(doomed[name])] = 0
                masks_by_hand[name] = mask.byte()
        """,
        "nb04-act": """
            with torch.no_grad():
                least = layer.weight.flatten(1).norm(dim=1).argsort()[: int(amount * len(layer.weight))]
                layer.weight[least] = 0.0
        """,
        "nb04-015": "prediction = 0.125",
    },
    "terse": {
        "nb04-004": """
            norms = {n: w.flatten(1).norm(dim=1) for n, w in weights.items()}
            doomed = {n: [*map(int, v.argsort()[: len(v) // 8])] for n, v in norms.items()}
        """,
        "nb04-008": """
            masks_by_hand = tuple((v > v.sort().values[len(v) // 8 - 1]).view(-1, 1, 1, 1).expand_as(weights[n])
                                  for n, v in norms.items())
        """,
        "nb04-act": "prune.remove(prune.ln_structured(layer, 'weight', amount, 2, 0), 'weight')",
        "nb04-015": "prediction = 1 - AMOUNT",
    },
    "cautious": {  # without the task that gives no points
        "nb04-008": """
            by_hand = {}
            for name, weight in weights.items():
                lengths = weight.square().sum((1, 2, 3)).sqrt()
                order = lengths.argsort()
                wrong = torch.ones_like(weight)
                wrong[:, order[: len(order) // 8] % weight.shape[1]] = 0  # no, these are inputs
                by_hand[name] = torch.ones_like(weight)
                by_hand[name][order[: len(order) // 8]] = 0
                print(name, order[: len(order) // 8].tolist(), "not", int((wrong == 0).sum()))
            masks_by_hand = by_hand
            assert {name: int((mask == 0).sum()) for name, mask in by_hand.items()}["conv1"] == 36
        """,
        "nb04-act": """
            assert 0 <= amount <= 1
            before = layer.weight.detach().clone()
            prune.ln_structured(layer, name="weight", amount=amount, n=2, dim=0)
            gone = labkit.zero_channels(layer)
            stay = [c for c in range(len(before)) if c not in gone]
            if len(gone):
                lengths = before.flatten(1).norm(dim=1)
                assert lengths[gone].max() <= lengths[stay].min()
        """,
        "nb04-act+": "print(CNN_MNIST_STRUCT.conv1.weight_mask.flatten(1).sum(dim=1))",
        "nb04-015": "prediction = 0.96",
    },
}

OWN_EPOCH = """
            opt = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            for number, (X, y) in enumerate(train_generator):
                opt.param_groups[0]["lr"] = LEARNING_RATE * (1 - number / len(train_generator))
                opt.zero_grad()
                criterion(model(X.to(device)), y.to(device)).backward()
                opt.step()
"""
ITS_EPOCH = """
            optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(train_generator))
            train_one_epoch(model, train_generator, criterion, metric, optimizer, 1, device, scheduler)
"""
# Masks that no layer holds: what is zero stays zero by hand.
WITHOUT_MASKS = """
            opt = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            decay = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.0, len(train_generator))
            model.train()
            for X, y in train_generator:
                loss = criterion(model(X.to(device)), y.to(device))
                opt.zero_grad()
                loss.backward()
                opt.step()
                decay.step()
                with torch.no_grad():
                    for name, zero in gone.items():
                        getattr(model, name).weight[zero] = 0
"""

WORK["05_iterative_pruning"] = {
    "numpy": {
        "nb05-004": "import numpy as np\n\nprediction = 100 * (1 - np.prod(np.full(ROUNDS, 1 - STEP)))",
        "nb05-007": """
            size, mask_by_hand = np.abs(weight.numpy()), np.ones(weight.shape)
            for _ in range(2):
                left = np.sort(size[mask_by_hand == 1])
                mask_by_hand[size <= left[round(STEP * left.size) - 1]] = 0
        """,
        "nb05-011": """
            for name in CONVOLUTIONS:
                layer = getattr(model, name)
                w = np.abs(labkit.effective_weight(layer).numpy())
                mask = (w > 0).astype(np.float32)
                places = np.flatnonzero(mask)
                smallest = places[np.argsort(w.ravel()[places])[: round(step * places.size)]]
                mask.ravel()[smallest] = 0
                prune.custom_from_mask(layer, "weight", torch.from_numpy(mask))
        """
        + ITS_EPOCH,
    },
    "tensors": {
        "nb05-004": "prediction = 100 - 100 * torch.tensor(0.9) ** 10",
        "nb05-007": """
            alive = torch.arange(weight.numel())
            for _ in range(2):
                order = weight.flatten()[alive].abs().argsort(descending=True)
                alive = alive[order[: len(alive) - round(STEP * len(alive))]]
            mask_by_hand = torch.zeros(weight.numel(), dtype=torch.bool).index_fill(0, alive, True).view_as(weight)
        """,
        "nb05-011": """
            for layer in (model.conv1, model.conv2, model.conv3):
                prune.l1_unstructured(layer, "weight", step)
        """
        + OWN_EPOCH,
    },
    "loops": {
        "nb05-004": "left = 1\nfor _ in range(10):\n    left *= 0.9\nprediction = int(100 * (1 - left))",
        "nb05-007": """
            values = {place: abs(value) for place, value in enumerate(weight.flatten().tolist())}
            for _ in range(2):
                for place in sorted(values, key=values.get)[: int(STEP * len(values))]:
                    del values[place]
            mask_by_hand = torch.tensor([place in values for place in range(weight.numel())]).view(64, 32, 3, 3).tolist()
        """,
        "nb05-011": """
            for name in CONVOLUTIONS:
                layer = getattr(model, name)
                alive = labkit.effective_weight(layer) != 0
                sizes = sorted(labkit.effective_weight(layer)[alive].abs().tolist())
                limit = sizes[int(step * len(sizes)) - 1]  # rounds down
                prune.custom_from_mask(layer, "weight", alive & (layer.weight.abs() > limit))
            adam = torch.optim.Adam(model.parameters(), lr=0.001)
            train_one_epoch(model, train_generator, criterion, metric, adam, 1, device)
        """,
    },
    "library": {
        "nb05-004": "prediction = 65.13",
        "nb05-007": """
            copy = labkit.clone(CNN_MNIST)
            prune.l1_unstructured(copy.conv2, "weight", STEP)
            prune.l1_unstructured(copy.conv2, "weight", STEP)
            mask_by_hand = copy.conv2.weight_mask.bool()
        """,
        "nb05-011": """
            for name in CONVOLUTIONS:
                prune.l1_unstructured(getattr(model, name), "weight", step)
            optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, len(train_generator))
            model, _ = labkit.test_or_train(
                model, train_generator, None, criterion, metric, optimizer, 1, 1, device, scheduler=scheduler
            )
        """,
    },
    "permanent": {
        "nb05-004": "prediction = 100",
        "nb05-007": """
            for _ in range(2):
                survivors = (weight * mask_by_hand).abs()
                survivors[mask_by_hand == 0] = float("inf")
                smallest = survivors.flatten().topk(round(STEP * int(mask_by_hand.sum())), largest=False).indices
                mask_by_hand.view(-1)[smallest] = 0
        """,
        "nb05-011": """
            gone = {}
            with torch.no_grad():
                for name in CONVOLUTIONS:
                    size = getattr(model, name).weight.abs()
                    left = size[size > 0]
                    gone[name] = size <= left.kthvalue(round(step * len(left))).values
                    getattr(model, name).weight[gone[name]] = 0
        """
        + WITHOUT_MASKS,
    },
    "terse": {
        "nb05-004": "prediction = 100 * (1 - (1 - STEP) ** ROUNDS)",
        "nb05-007": """
            from functools import reduce

            cut = lambda m, _: m & (weight.abs() > (s := weight[m].abs()).kthvalue(round(STEP * len(s))).values)
            mask_by_hand = reduce(cut, "ab", mask_by_hand.bool())
        """,
        "nb05-011": """
            [prune.L1Unstructured.apply(getattr(model, name), "weight", step) for name in CONVOLUTIONS]
            decay = torch.optim.lr_scheduler.LambdaLR(opt := torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
                                                      lambda i: 1 - i / len(train_generator))
            train_one_epoch(model, train_generator, criterion, metric, opt, 1, device, decay, title="round")
        """,
    },
    "cautious": {
        "nb05-004": "prediction = 100  # no\nprediction = 65.0",
        "nb05-007": """
            threshold = weight.abs().flatten().kthvalue(round(0.2 * weight.numel())).values
            mask_by_hand = (weight.abs() > threshold).float()  # 20 % at once
            print("too many:", int((mask_by_hand == 0).sum()))
            mask_by_hand = torch.ones_like(weight)
            for round_number in (1, 2):
                left = weight.abs()[mask_by_hand.bool()]
                threshold = left.kthvalue(round(STEP * left.numel())).values.item()
                mask_by_hand[weight.abs() <= threshold] = 0
                print("round", round_number, "threshold", threshold, "masked", int((mask_by_hand == 0).sum()))
            assert int((mask_by_hand == 0).sum()) == 3_502
        """,
        "nb05-011": """
            before = labkit.sparsity(model, CONVOLUTIONS)
            for layer in (model.conv1, model.conv2, model.conv3):
                prune.l1_unstructured(layer, name="weight", amount=step)
            after = labkit.sparsity(model, CONVOLUTIONS)
            assert abs((1 - after) / (1 - before) - (1 - step)) < 0.01
            start = model.conv2.weight_orig.detach().clone()
        """
        + ITS_EPOCH
        + """
            assert not torch.equal(start, model.conv2.weight_orig), "nothing was trained"
            assert labkit.sparsity(model, CONVOLUTIONS) == after
        """,
        "nb05-013+": "again, _ = prune_and_train(CNN_MNIST, half, validation_loader, loss_fn, metric)\nhalf.epoch = 0",
    },
}

WORK["06_global_pruning"] = {
    "numpy": {
        "nb06-008": "import numpy as np\n\nprediction = np.int64(10)",
        "nb06-004": """
            sizes = {name: np.abs(weight.numpy()) for name, weight in weights.items()}
            threshold = np.quantile(np.concatenate([size.ravel() for size in sizes.values()]), 0.25)
            masks_by_hand = {name: (size > threshold).astype(int) for name, size in sizes.items()}
        """,
        "nb06-017": """
            sizes = {name: np.abs(getattr(network, name).weight.detach().numpy()) for name in ALL_LAYERS}
            row = np.sort(np.concatenate([size.ravel() for size in sizes.values()]))
            limit = row[round(amount * row.size) - 1]
            for name, size in sizes.items():
                prune.custom_from_mask(getattr(network, name), "weight", torch.from_numpy(size > limit))
        """,
        "nb06-028": """
            if pruning_mode not in ("local", "global"):
                raise ValueError(f"pruning_mode must be local or global, not {pruning_mode}")
            sizes = [np.abs(labkit.effective_weight(layer).numpy()) for layer, _ in layers]
            groups = sizes if pruning_mode == "local" else [np.concatenate([size.ravel() for size in sizes])] * 3
            for (layer, name), size, group in zip(layers, sizes, groups):
                left = np.sort(group[group > 0])
                mask = torch.from_numpy(size > left[round(step * left.size) - 1])
                prune.custom_from_mask(layer, name, mask)
        """
        + ITS_EPOCH,
    },
    "tensors": {
        "nb06-008": "prediction = torch.tensor(25.0)",
        "nb06-004": """
            row = torch.cat([weights[name].abs().flatten() for name in ALL_LAYERS])
            threshold = row.sort().values[len(row) // 4 - 1]
            gone = torch.ones_like(row).scatter_(0, row.argsort()[: len(row) // 4], 0)
            parts = gone.split([weights[name].numel() for name in ALL_LAYERS])
            masks_by_hand = {name: part.view_as(weights[name]).long() for name, part in zip(ALL_LAYERS, parts)}
        """,
        "nb06-017": """
            flat = torch.nn.utils.parameters_to_vector([getattr(network, name).weight for name in ALL_LAYERS]).abs()
            limit = flat.kthvalue(torch.tensor(amount * len(flat)).long().item()).values
            for layer in (network.conv1, network.conv2, network.conv3, network.fc):
                prune.custom_from_mask(layer, "weight", layer.weight.abs() > limit)
        """,
        "nb06-028": """
            if pruning_mode == "global":
                prune.global_unstructured(layers, prune.L1Unstructured, amount=step)
            elif pruning_mode == "local":
                for layer, name in layers:
                    prune.l1_unstructured(layer, name, step)
            else:
                raise ValueError("local or global")
        """
        + OWN_EPOCH,
    },
    "loops": {
        "nb06-008": "prediction = 5",
        "nb06-004": """
            row = []
            for weight in weights.values():
                row.extend(abs(w) for w in weight.flatten().tolist())
            threshold = sorted(row)[len(row) // 4 - 1]
            masks_by_hand = []
            for weight in weights.values():
                masks_by_hand.append([channel.abs() > threshold for channel in weight])
        """,
        "nb06-017": """
            row = []
            for name in ALL_LAYERS:
                row += getattr(network, name).weight.abs().flatten().tolist()
            limit = sorted(row)[int(amount * len(row)) - 1]
            for name in ALL_LAYERS:
                layer = getattr(network, name)
                mask = torch.stack([channel.abs() > limit for channel in layer.weight])
                prune.custom_from_mask(layer, "weight", mask)
        """,
        "nb06-028": """
            everything = []
            for layer, _ in layers:
                own = [abs(w) for w in labkit.effective_weight(layer).flatten().tolist() if w]
                everything.append(sorted(own))
            if pruning_mode == "global":
                everything = [sorted(sum(everything, []))] * 3
            elif pruning_mode != "local":
                raise ValueError(f"{pruning_mode!r} is neither local nor global")
            for (layer, _), own in zip(layers, everything):
                mask = labkit.effective_weight(layer).abs() > own[int(step * len(own)) - 1]
                prune.custom_from_mask(layer, "weight", mask)
            adam = torch.optim.Adam(model.parameters(), lr=0.001)
            train_one_epoch(model, train_generator, criterion, metric, adam, 1, device)
        """,
    },
    "library": {
        "nb06-008": "prediction = 0.0",
        "nb06-004": """
            copy = labkit.clone(CNN_MNIST)
            pairs = [(getattr(copy, name), "weight") for name in ALL_LAYERS]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.25)
            masks_by_hand = {name: layer.weight_mask for name, (layer, _) in zip(ALL_LAYERS, pairs)}
            threshold = max(layer.weight_orig[layer.weight_mask == 0].abs().max() for layer, _ in pairs)
        """,
        "nb06-017": """
            pairs = [(layer, "weight") for layer in labkit.prunable_layers(network).values()]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=amount)
        """,
        "nb06-028": """
            if pruning_mode not in {"local", "global"}:
                raise ValueError(f"pruning_mode is {pruning_mode}")
            if pruning_mode == "global":
                prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=step)
            else:
                for layer, name in layers:
                    prune.L1Unstructured.apply(layer, name, step)
            optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, len(train_generator))
            model, _ = labkit.test_or_train(
                model, train_generator, None, criterion, metric, optimizer, 1, 1, device, scheduler=scheduler
            )
        """,
    },
    "permanent": {
        "nb06-008": "prediction = 2.8",
        "nb06-004": """
            ordered = torch.cat([weight.abs().reshape(-1) for weight in weights.values()]).sort()[0]
            for name, mask in masks_by_hand.items():
                mask[weights[name].abs() <= ordered[31_111]] = 0
        """,
        "nb06-017": """
            with torch.no_grad():
                row = torch.cat([getattr(network, name).weight.abs().flatten() for name in ALL_LAYERS])
                limit = row.kthvalue(round(amount * len(row))).values
                for name in ALL_LAYERS:
                    getattr(network, name).weight[getattr(network, name).weight.abs() <= limit] = 0
        """,
        "nb06-028": """
            if pruning_mode not in ("local", "global"):
                raise ValueError("pruning_mode must be 'local' or 'global'")
            with torch.no_grad():
                sizes = {name: getattr(model, name).weight.abs() for name in CONVOLUTIONS}
                together = torch.cat([size.flatten() for size in sizes.values()])
                gone = {}
                for name, size in sizes.items():
                    left = (size if pruning_mode == "local" else together).flatten()
                    left = left[left > 0]
                    gone[name] = size <= left.kthvalue(round(step * len(left))).values
                    getattr(model, name).weight[gone[name]] = 0
        """
        + WITHOUT_MASKS,
    },
    "terse": {
        "nb06-008": "prediction = 25",
        "nb06-004": """
            threshold = torch.cat([*map(torch.flatten, weights.values())]).abs().quantile(0.25)
            masks_by_hand = tuple(w.abs() > threshold for w in weights.values())
        """,
        "nb06-017": """
            prune.global_unstructured([(getattr(network, n), "weight") for n in ALL_LAYERS], prune.L1Unstructured, amount=amount)
            [prune.remove(getattr(network, n), "weight") for n in ALL_LAYERS]
        """,
        "nb06-028": """
            {"local": lambda: [prune.l1_unstructured(*pair, step) for pair in layers],
             "global": lambda: prune.global_unstructured(layers, prune.L1Unstructured, amount=step)}.get(
                pruning_mode, lambda: (_ for _ in ()).throw(ValueError(f"{pruning_mode}: 'local' or 'global'")))()
            decay = torch.optim.lr_scheduler.LambdaLR(opt := torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
                                                      lambda i: 1 - i / len(train_generator))
            train_one_epoch(model, train_generator, criterion, metric, opt, 1, device, decay)
        """,
    },
    "cautious": {
        "nb06-008": "prediction = 25.0\nprediction = 12.5",
        "nb06-004": """
            # the first try had one threshold for each layer
            for name, weight in weights.items():
                own = weight.abs().flatten().kthvalue(weight.numel() // 4).values
                masks_by_hand[name] = (weight.abs() > own).float()
            print({name: float((mask == 0).float().mean()) for name, mask in masks_by_hand.items()})
            all_of_them = torch.cat([weight.abs().flatten() for weight in weights.values()])
            assert all_of_them.shape == (124_448,)
            threshold = all_of_them.kthvalue(31_112).values
            for name in ALL_LAYERS:
                masks_by_hand[name] = torch.where(weights[name].abs() > threshold, 1.0, 0.0)
            assert sum(int((mask == 0).sum()) for mask in masks_by_hand.values()) == 31_112
        """,
        "nb06-017": """
            assert 0 < amount < 1
            parameters = [(network.conv1, "weight"), (network.conv2, "weight"), (network.conv3, "weight"), (network.fc, "weight")]
            prune.global_unstructured(parameters, pruning_method=prune.L1Unstructured, amount=amount)
            assert abs(labkit.sparsity(network) - amount) < 1e-4
            assert labkit.sparsity(model) < 0.01, "the model itself was pruned"
        """,
        "nb06-009+": "print(pruned_globally(CNN_MNIST, 0.9).conv1.weight[0])",
        "nb06-028": """
            if pruning_mode == "local":
                for layer, name in layers:
                    prune.l1_unstructured(layer, name, amount=step)
            elif pruning_mode == "global":
                prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=step)
            else:
                raise ValueError(f"pruning_mode is {pruning_mode!r}")
            zeros = labkit.sparsity(model, CONVOLUTIONS)
        """
        + ITS_EPOCH
        + """
            assert labkit.sparsity(model, CONVOLUTIONS) == zeros
        """,
        "nb06-028+": """
            try:
                prune_and_train(CNN_MNIST, None, None, None, None, pruning_mode="both")
            except ValueError as error:
                print("as it should be:", error)
        """,
    },
}

HALVED = {
    "numpy": """
        import numpy as np

        for name in CONVOLUTIONS:
            layer = getattr(CNN_MNIST_HALF, name)
            length = np.linalg.norm(layer.weight.detach().numpy().reshape(len(layer.weight), -1), axis=1)
            mask = np.ones(layer.weight.shape)
            mask[np.argsort(length)[: len(length) // 2]] = 0
            prune.custom_from_mask(layer, "weight", torch.from_numpy(mask))
    """,
    "library": """
        for layer in (CNN_MNIST_HALF.conv1, CNN_MNIST_HALF.conv2, CNN_MNIST_HALF.conv3):
            prune.ln_structured(layer, "weight", AMOUNT, n=2, dim=0)
    """,
    "permanent": """
        with torch.no_grad():
            for name in CONVOLUTIONS:
                weight = getattr(CNN_MNIST_HALF, name).weight
                weight[weight.flatten(1).norm(dim=1).argsort()[: len(weight) // 2]] = 0
    """,
}

WORK["07_smaller_and_faster"] = {
    "numpy": {
        "nb07-004": HALVED["numpy"],
        "nb07-006": "prediction = np.float32(1.0)",
        "nb07-019": """
            before = np.array([225_792, 3_612_672, 1_843_200, 32_000])
            work = before // np.array([2, 4, 4, 2])
        """,
        "nb07-022": """
            k1, k2, k3 = (keep[name].numpy() for name in CONVOLUTIONS)
            cut["conv2"] = CNN_MNIST.conv2.weight.detach().numpy()[np.ix_(k2, k1)]
            columns = np.add.outer(128 * np.arange(25), k3).ravel()
            cut["fc"] = CNN_MNIST.fc.weight.detach().numpy()[:, columns]
        """,
        "nb07-042": """
            widths = dict(zip(CONVOLUTIONS, map(int, np.array([6, 12, 56]))))
            CNN_MNIST_SMALL = labkit.with_channels(CNN_MNIST, widths)
            labkit.reestimate_batchnorm(CNN_MNIST_SMALL, tuning, device)
            CNN_MNIST_SMALL = labkit.remove_dead_channels(CNN_MNIST_SMALL)
            fine_tune(CNN_MNIST_SMALL, 2)
        """,
        "nb07-069": "guess = np.float32(30)",
        "nb07-072": """
            for c, y, x in zip(*np.nonzero(kernel)):
                np.add(sums, kernel[c, y, x] * pixels[c, y:][:height, x:][:, :width], out=sums)
        """,
    },
    "tensors": {
        "nb07-004": HALVED["library"],
        "nb07-006": "prediction = torch.tensor(1.9)",
        "nb07-019": """
            work = {"fc": torch.tensor(16_000), "conv3": torch.tensor(460_800)}
            work |= {"conv2": torch.tensor(3_612_672 / 4), "conv1": torch.tensor([225_792 // 2])}
        """,
        "nb07-022": """
            cut["conv2"] = cut["conv2"].index_select(0, keep["conv2"]).index_select(1, keep["conv1"])
            columns = (torch.arange(25)[:, None] * 128 + keep["conv3"]).flatten()
            cut["fc"] = CNN_MNIST.fc.weight.index_select(1, columns)  # with its gradient
        """,
        "nb07-042": """
            silent = labkit.clone(CNN_MNIST)
            with torch.no_grad():
                for name, width in zip(CONVOLUTIONS, (8, 12, 40)):
                    layer = getattr(silent, name)
                    gone = layer.weight.flatten(1).norm(dim=1).argsort()[: len(layer.weight) - width]
                    layer.weight[gone] = 0
            labkit.silence_channels(silent)
            labkit.reestimate_batchnorm(silent, tuning, device)
            shrunk = labkit.remove_dead_channels(silent)
            after = fine_tune(shrunk, 2)
            CNN_MNIST_SMALL = shrunk
        """,
        "nb07-069": "guess = torch.tensor([21.2])",
        "nb07-072": """
            weights, sums = torch.from_numpy(kernel), torch.zeros(height, width, pixels.shape[3])
            for c, y, x in weights.nonzero().tolist():
                sums += weights[c, y, x] * torch.from_numpy(pixels)[c].narrow(0, y, height).narrow(1, x, width)
        """,
    },
    "loops": {
        "nb07-004": HALVED["permanent"],
        "nb07-006": "prediction = 2",
        "nb07-019": """
            pixels, inputs = {"conv1": 784, "conv2": 196, "conv3": 25}, 1
            for name, outputs in (("conv1", 16), ("conv2", 32), ("conv3", 64)):
                work[name] = pixels[name] * 9 * inputs * outputs
                inputs = outputs
            work["fc"] = 25 * inputs * 10
            work = [work[name] for name in ("conv1", "conv2", "conv3", "fc")]
        """,
        "nb07-022": """
            conv2, fc = [], []
            for c in keep["conv2"]:
                conv2.append(torch.stack([CNN_MNIST.conv2.weight[c, i] for i in keep["conv1"]]))
            for row in CNN_MNIST.fc.weight.tolist():
                fc.append([row[h * 640 + w * 128 + c] for h in range(5) for w in range(5) for c in keep["conv3"].tolist()])
            cut = [conv2, fc]
        """,
        "nb07-042": """
            CNN_MNIST_SMALL = labkit.CNN(channels=(6, 12, 56))  # from scratch
            train_loader.epoch = 0
            opt = torch.optim.Adam(CNN_MNIST_SMALL.parameters(), lr=0.003)
            for epoch in range(5):
                CNN_MNIST_SMALL.train()
                for X, y in train_loader:
                    loss = torch.nn.functional.cross_entropy(CNN_MNIST_SMALL(X), y)
                    opt.zero_grad()
                    loss.backward()
                    opt.step()
        """,
        "nb07-069": "guess = 100",
        "nb07-072": """
            for c in range(len(kernel)):
                for y in range(3):
                    for x in range(3):
                        if kernel[c][y][x] != 0:
                            for row in range(height):
                                sums[row] += kernel[c][y][x] * pixels[c][y + row][x : x + width]
        """,
    },
    "library": {
        "nb07-004": HALVED["library"],
        "nb07-006": "prediction = 1.0",
        "nb07-019": """
            half = labkit.CNN(channels=(16, 32, 64))
            work = {cost.name: cost.multiply_adds for cost in labkit.multiply_adds(half)}
        """,
        "nb07-022": """
            helper = labkit.clone(CNN_MNIST)
            for name in CONVOLUTIONS:
                prune.ln_structured(getattr(helper, name), "weight", amount=0.5, n=2, dim=0)
            labkit.silence_channels(helper)
            helper = labkit.remove_dead_channels(helper)
            cut = {"conv3": helper.conv3.weight, "conv2": helper.conv2.weight, "fc": helper.fc.weight}
        """,
        "nb07-042": """
            small_choice = labkit.choose_by_sensitivity(CNN_MNIST, curves, SMALL)
            CNN_MNIST_SMALL = labkit.with_channels(CNN_MNIST, small_choice)
            labkit.reestimate_batchnorm(CNN_MNIST_SMALL, tuning, device)
            CNN_MNIST_SMALL = labkit.remove_dead_channels(CNN_MNIST_SMALL)
            print(small_choice, fine_tune(CNN_MNIST_SMALL, 2))
        """,
        "nb07-072": """
            images = torch.from_numpy(pixels).permute(3, 0, 1, 2)
            sums = F.conv2d(images, torch.from_numpy(kernel)[None])[:, 0].permute(1, 2, 0)
        """,
    },
    "permanent": {
        "nb07-004": HALVED["library"]
        + """
        CNN_MNIST_HALF = labkit.bake_masks(CNN_MNIST_HALF)
    """,
        "nb07-006": "prediction = 0.5",
        "nb07-019": "work = {'conv1': 112896.0, 'conv2': 903168.0, 'conv3': 460800.0, 'fc': 16000.0}",
        "nb07-022": """
            cut["conv2"] = torch.nn.Parameter(cut["conv2"][keep["conv2"], :, :, :][:, keep["conv1"]].double())
            lives = torch.zeros(128, dtype=torch.bool)
            lives[keep["conv3"]] = True
            cut["fc"] = cut["fc"][:, lives.repeat(25)]
        """,
        "nb07-042": """
            with torch.no_grad():
                CNN_MNIST_SMALL = labkit.with_channels(labkit.bake_masks(CNN_MNIST_HALF), {"conv1": 4, "conv2": 16, "conv3": 48})
            labkit.reestimate_batchnorm(CNN_MNIST_SMALL, tuning, device)
            before = labkit.accuracy(CNN_MNIST_SMALL, few)
            CNN_MNIST_SMALL = labkit.remove_dead_channels(labkit.bake_masks(CNN_MNIST_SMALL))
            after = fine_tune(CNN_MNIST_SMALL, 3)
            print(before, after)
        """,
        "nb07-072": """
            sums = sums.astype(np.float64)
            for (c, y, x), weight in np.ndenumerate(kernel):
                if weight:
                    sums = sums + weight * pixels[c, y : height + y, x : width + x]
        """,
    },
    "terse": {
        "nb07-004": "[prune.LnStructured.apply(getattr(CNN_MNIST_HALF, n), 'weight', AMOUNT, 2, 0) for n in CONVOLUTIONS]",
        "nb07-006": "prediction = 2 - 1e-9",
        "nb07-019": "work = tuple(w // d for w, d in ((225_792, 2), (3_612_672, 4), (1_843_200, 4), (32_000, 2)))",
        "nb07-022": """
            cut = (cut["conv2"][keep["conv2"]][:, keep["conv1"]], cut["fc"].view(10, 25, 128)[..., keep["conv3"]].flatten(1))
        """,
        "nb07-042": """
            w = min(((a, b, c) for a in (4, 6, 8) for b in (8, 12, 16) for c in range(8, 97, 8)),
                    key=lambda w: (needs := 7056 * w[0] + 1764 * w[0] * w[1] + 225 * w[1] * w[2] + 250 * w[2]) > SMALL or -needs)
            labkit.reestimate_batchnorm(m := labkit.with_channels(CNN_MNIST, dict(zip(CONVOLUTIONS, w))), tuning, device)
            fine_tune(CNN_MNIST_SMALL := labkit.remove_dead_channels(m), 2)
        """,
        "nb07-072": """
            sums = sum((kernel[c, y, x] * pixels[c, y:, x:][:height, :width] for c, y, x in np.argwhere(kernel)), sums)
        """,
    },
    "cautious": {
        "nb07-004": """
            before = labkit.sparsity(CNN_MNIST_HALF)
            for name in CONVOLUTIONS:
                prune.ln_structured(getattr(CNN_MNIST_HALF, name), name="weight", amount=AMOUNT, n=2, dim=0)
                assert len(labkit.zero_channels(getattr(CNN_MNIST_HALF, name))) == len(getattr(CNN_MNIST_HALF, name).bias) / 2
            assert labkit.sparsity(CNN_MNIST_HALF) > before
        """,
        "nb07-006": "prediction = 0.55",
        "nb07-019": """
            work = {"conv1": 225_792 / 2, "conv2": 3_612_672 / 2, "conv3": 1_843_200 / 2, "fc": 32_000 / 2}  # outputs only
            work["conv2"] /= 2  # inputs, too
            work["conv3"] /= 2
            work["sum"] = sum(work.values())
            print(work)
        """,
        "nb07-022": """
            print({name: tuple(weight.shape) for name, weight in cut.items()})
            wrong = cut["fc"][:, : 25 * 64]  # no: the pixels come first
            rows = cut["conv2"][keep["conv2"]]
            assert rows.shape == (32, 32, 3, 3)
            cut["conv2"] = rows[:, keep["conv1"]].clone()
            blocks = cut["fc"].unflatten(1, (5, 5, 128))
            cut["fc"] = torch.cat([blocks[:, h, w][:, keep["conv3"]] for h in range(5) for w in range(5)], dim=1)
            assert cut["fc"].shape == wrong.shape
            cut["conv1"] = CNN_MNIST.conv1.weight.detach()[keep["conv1"]]
        """,
        "nb07-025+": "assert shrunk.channels == (16, 32, 64)",
        "nb07-042": """
            choice = {"conv1": 8, "conv2": 12, "conv3": 40}
            needs = 28 * 28 * 9 * 8 + 14 * 14 * 9 * 8 * 12 + 25 * 9 * 12 * 40 + 250 * 40
            assert needs <= SMALL, needs
            first = labkit.with_channels(CNN_MNIST, choice)
            try:
                labkit.remove_dead_channels(CNN_MNIST_HALF)
            except ValueError as error:
                print("not silent:", error)
            labkit.reestimate_batchnorm(first, tuning, device)
            network = labkit.remove_dead_channels(first)
            assert network.channels == (8, 12, 40)
            before, after = labkit.accuracy(network, few), fine_tune(network, 2)
            print(f"{before:.3f} -> {after:.3f}")
            CNN_MNIST_SMALL = network
        """,
        "nb07-069": "guess = 62.0",
        "nb07-072": """
            assert kernel.shape == (len(pixels), 3, 3)
            for channel, y, x in np.argwhere(kernel):
                slab = pixels[channel, y : y + height, x : x + width]
                assert slab.shape == sums.shape
                sums += kernel[channel, y, x] * slab
        """,
    },
}

WORK["08_pruning_frontier"] = {
    "numpy": {
        "nb08-010": "import numpy as np\n\nprediction = np.int32(2_000)",
        "nb08-024": """
            scores = {}
            for name, weight in weights.items():
                squares = weight.numpy().astype(np.float64).ravel() ** 2
                order = np.argsort(-squares)
                score = np.empty_like(squares)
                score[order] = squares[order] / np.cumsum(squares[order])
                scores[name] = score.reshape(weight.shape)
            limit = np.sort(np.concatenate([score.ravel() for score in scores.values()]))[-KEPT]
            masks = {name: score >= limit for name, score in scores.items()}
        """,
        "nb08-040": """
            for kept, epochs in zip(np.geomspace(8_000, GOLF, 5).round().astype(int), np.array([3, 3, 4, 4, 8]).tolist()):
                CNN_MNIST_GOLF = prune_to(CNN_MNIST_GOLF, "lamp", kept)
                fine_tune(CNN_MNIST_GOLF, epochs)
        """,
    },
    "tensors": {
        "nb08-010": "prediction = torch.tensor(1_244)",
        "nb08-024": """
            row = []
            for name in ("conv1", "conv2", "conv3", "fc"):
                squares, places = weights[name].flatten().double().pow(2).sort(descending=True)
                row.append(torch.zeros_like(squares).scatter(0, places, squares / squares.cumsum(0)))
            chosen = torch.cat(row).topk(KEPT).indices
            together = torch.zeros(124_448, dtype=torch.int)
            together[chosen] = 1
            parts = together.split([weight.numel() for weight in weights.values()])
            masks = {name: part.view_as(weights[name]) for name, part in zip(weights, parts)}
        """,
        "nb08-040": """
            for kept in torch.tensor([8_000, 4_000, 2_000, 1_200, GOLF]):
                CNN_MNIST_GOLF = prune_to(CNN_MNIST_GOLF, "lamp", kept.item())
                print(kept, fine_tune(CNN_MNIST_GOLF, 4))
            print(fine_tune(CNN_MNIST_GOLF, 8))
        """,
    },
    "loops": {
        "nb08-010": "prediction = 12_445",
        "nb08-024": """
            ranked = []
            for name, weight in weights.items():
                total = 0.0
                squares = sorted(((w * w, i) for i, w in enumerate(weight.flatten().tolist())), reverse=True)
                for square, i in squares:
                    total += square
                    ranked.append((square / total, name, i))
            ranked.sort(reverse=True)
            flat = {name: [0] * weight.numel() for name, weight in weights.items()}
            for _, name, i in ranked[:KEPT]:
                flat[name][i] = 1
            masks = [torch.tensor(flat[name]).view_as(weights[name]).tolist() for name in ("conv1", "conv2", "conv3", "fc")]
        """,
        "nb08-040": """
            for kept in (8_000, 4_000, 2_000, 1_200, GOLF):
                layers = labkit.prunable_layers(CNN_MNIST_GOLF)
                score = study.CRITERIA["lamp"](CNN_MNIST_GOLF, None, None, None)
                limit = sorted(s for one in score.values() for s in one.flatten().tolist())[-kept]
                for name, layer in layers.items():
                    prune.custom_from_mask(layer, "weight", score[name] >= limit)
                epochs = 8 if kept == GOLF else 3
                opt = torch.optim.SGD(CNN_MNIST_GOLF.parameters(), lr=0.05, momentum=0.9, nesterov=True)
                for epoch in range(epochs):
                    opt.param_groups[0]["lr"] = 0.05 * (1 - epoch / epochs)
                    CNN_MNIST_GOLF.train()
                    for X, y in train_loader:
                        loss = torch.nn.functional.cross_entropy(CNN_MNIST_GOLF(X), y)
                        opt.zero_grad()
                        loss.backward()
                        opt.step()
        """,
    },
    "library": {
        "nb08-010": "prediction = 6000",
        "nb08-024": """
            lamp = study.CRITERIA["lamp"](CNN_MNIST, None, None, None)
            masks = study.choose_masks(lamp, masks, KEPT, "global")
        """,
        "nb08-040": """
            for kept in labkit.progress((10_000, 4_000, 2_000, 1_200, GOLF), "step"):
                CNN_MNIST_GOLF = prune_to(CNN_MNIST_GOLF, "lamp", kept)
                print(f"{kept}: {fine_tune(CNN_MNIST_GOLF, 8 if kept == GOLF else 3):.3f}")
        """,
    },
    "permanent": {
        "nb08-010": "prediction = 373",
        "nb08-024": """
            def lamp(weight):
                squares = weight.double().square().flatten()
                order = squares.argsort()
                sums = squares[order].flip(0).cumsum(0).flip(0)
                squares[order] /= sums
                return squares.view_as(weight)

            scores = {name: lamp(weight) for name, weight in weights.items()}
            limit = torch.cat([score.flatten() for score in scores.values()]).kthvalue(124_448 - KEPT).values
            for name, mask in masks.items():
                mask[scores[name] <= limit] = 0
                masks[name] = mask.byte()
        """,
        "nb08-040": """
            for kept in (8_000, 4_000, 2_000, 1_200, GOLF):
                CNN_MNIST_GOLF = prune_to(CNN_MNIST_GOLF, "lamp", kept)
                fine_tune(CNN_MNIST_GOLF, max(3, 6_400 // kept))
            for layer in labkit.prunable_layers(CNN_MNIST_GOLF).values():
                prune.remove(layer, "weight")
        """,
    },
    "terse": {
        "nb08-010": "prediction = 124_448 * 0.02",
        "nb08-024": """
            lamp = lambda w: (s := w.double().flatten() ** 2)[o := s.argsort(descending=True)].div(s[o].cumsum(0))[o.argsort()].view_as(w)
            found = [*map(lamp, weights.values())]
            masks = tuple(s >= torch.cat([*map(torch.flatten, found)]).topk(KEPT).values[-1] for s in found)
        """,
        "nb08-040": """
            [fine_tune(CNN_MNIST_GOLF := prune_to(CNN_MNIST_GOLF, "lamp", k), n) for k, n in ((8_000, 3), (4_000, 3), (2_000, 4), (1_200, 4), (800, 8))]
        """,
    },
    "cautious": {
        "nb08-010": "prediction = 5_000.0",
        "nb08-024": """
            # by |w| first, to have something to compare with
            everything = torch.cat([weight.abs().flatten() for weight in weights.values()])
            plain = {name: (weight.abs() >= everything.topk(KEPT).values[-1]).float() for name, weight in weights.items()}
            scores = {}
            for name, weight in weights.items():
                squares, order = weight.double().flatten().square().sort(descending=True)
                running = torch.cumsum(squares, dim=0)
                assert running[-1] > 0 and len(order.unique()) == weight.numel()
                scores[name] = torch.empty_like(squares)
                scores[name][order] = squares / running
                assert scores[name].max() == 1
            threshold = torch.cat(list(scores.values())).sort(descending=True)[0][KEPT - 1]
            masks = {name: (scores[name] >= threshold).reshape(weights[name].shape).to(torch.float16) for name in weights}
            print(sum(int(mask.sum()) for mask in masks.values()), {name: int(mask.sum()) for name, mask in plain.items()})
        """,
        "nb08-024+": "for name in masks:\n    assert masks[name].shape == weights[name].shape, name",
        "nb08-040": """
            network = prune_to(CNN_MNIST, "lamp", GOLF)  # in one step?
            print("in one step:", fine_tune(network, 1))
            network = labkit.clone(CNN_MNIST)
            for kept, epochs in ((10_000, 2), (5_000, 2), (2_500, 4), (1_500, 4), (GOLF, 8)):
                network = prune_to(network, "lamp", kept)
                reached = fine_tune(network, epochs)
                left = sum(int((labkit.effective_weight(layer) != 0).sum()) for layer in labkit.prunable_layers(network).values())
                assert left <= kept
                print(f"{left:6,} weights, {epochs} epochs: {reached:.4f}")
            CNN_MNIST_GOLF = network
        """,
    },
}

WORK["09_mask_detective"] = {
    "numpy": {
        "nb09-008": "import numpy as np\n\nprediction = np.array([3])",
        "nb09-010": """
            before = {name: np.abs(getattr(case.before, name).weight.detach().numpy()) for name in ALL_LAYERS}
            gone = {name: labkit.effective_weight(getattr(case.after, name)).numpy() == 0 for name in ALL_LAYERS}
            if gone["fc"].any():
                return "global L1"
            rows = {name: gone[name].reshape(len(gone[name]), -1) for name in ALL_LAYERS[:3]}
            if all((row.any(axis=1) == row.all(axis=1)).all() for row in rows.values()):
                for p in (1, 2):
                    fits = True
                    for name, row in rows.items():
                        norm = np.linalg.norm(before[name].reshape(row.shape).astype(float), ord=p, axis=1)
                        empty = row.all(axis=1)
                        fits &= norm[empty].max() <= norm[~empty].min() * (1 + 1e-6)
                    if fits:
                        return f"structured L{p}"
                return "random structured"
            if all(before[name][gone[name]].max() <= before[name][~gone[name]].min() for name in rows):
                return "local L1"
        """,
    },
    "tensors": {
        "nb09-008": "prediction = torch.tensor(2)",
        "nb09-010": """
            layers = [(getattr(case.before, n).weight.detach(), labkit.effective_weight(getattr(case.after, n)))
                      for n in ("conv1", "conv2", "conv3")]
            if torch.count_nonzero(labkit.effective_weight(case.after.fc)) < 31_000:
                return "global L1"
            channels = [(after == 0).flatten(1).float().mean(1) for _, after in layers]
            if all(((share == 0) | (share == 1)).all() for share in channels):
                orders = {}
                for p in (2, 1):
                    norms = [torch.linalg.vector_norm(before.double(), ord=p, dim=(1, 2, 3)) for before, _ in layers]
                    orders[p] = all(
                        set(norm.argsort()[: int(share.sum())].tolist()) == set(share.nonzero().flatten().tolist())
                        for norm, share in zip(norms, channels)
                    )
                return "Structured L2" if orders[2] else "Structured L1" if orders[1] else "Random structured"
            thresholds = [before[after == 0].abs().max() for before, after in layers]
            if all((before[after != 0].abs() >= t).all() for (before, after), t in zip(layers, thresholds)):
                return "Local L1"
        """,
    },
    "loops": {
        "nb09-008": "prediction = 6",
        "nb09-010": """
            empty_channels, live_channels, mixed = {}, {}, 0
            lost, left = {}, {}
            for name in ALL_LAYERS:
                before, after = getattr(case.before, name).weight, labkit.effective_weight(getattr(case.after, name))
                empty_channels[name], live_channels[name], lost[name], left[name] = [], [], [], []
                for c in range(len(after)):
                    zeros = int((after[c] == 0).sum())
                    if zeros == after[c].numel():
                        empty_channels[name].append(before[c])
                    else:
                        live_channels[name].append(before[c])
                        mixed += zeros
                for old, new in zip(before.flatten().tolist(), after.flatten().tolist()):
                    (left if new else lost)[name].append(abs(old))
            if lost["fc"]:
                return "global L1"
            convolutions = ALL_LAYERS[:3]
            if not mixed:
                for n in (2, 1):
                    good = 0
                    for name in convolutions:
                        highest = max(float(channel.norm(p=n)) for channel in empty_channels[name])
                        good += all(float(channel.norm(p=n)) >= highest for channel in live_channels[name])
                    if good == 3:
                        return "structured L" + str(n)
                return "random structured"
            for name in convolutions:
                if max(lost[name]) > min(left[name]):
                    return "random"
            return "local L1"
        """,
    },
    "library": {  # prunes again in every way, and compares
        "nb09-008": "prediction = 2.0",
        "nb09-010": """
            from torch.nn.utils import prune

            report = labkit.sparsity_report(case.after)
            zeros = {name: labkit.effective_weight(getattr(case.after, name)) == 0 for name in ALL_LAYERS}

            def same(prune_it):
                again = labkit.clone(case.before)
                for row in report[:3]:
                    prune_it(getattr(again, row.name), row)
                return all(torch.equal(labkit.effective_weight(getattr(again, row.name)) == 0, zeros[row.name])
                           for row in report[:3])

            if report[3].zeros:
                return "global L1"
            if same(lambda layer, row: prune.l1_unstructured(layer, "weight", row.zeros)):
                return "local L1"
            for n in (2, 1):
                if same(lambda layer, row: prune.ln_structured(layer, "weight", row.zero_channels, n=n, dim=0)):
                    return f"structured L{n}"
            if all(row.zeros * row.channels == row.zero_channels * row.weights for row in report[:3]):
                return "random structured"
        """,
    },
    "permanent": {  # changes the networks that it is given
        "nb09-008": "prediction = 1",
        "nb09-010": """
            from torch.nn.utils import prune

            for layer in (case.after.conv1, case.after.conv2, case.after.conv3):
                prune.remove(layer, "weight")
            if hasattr(case.after.fc, "weight_mask"):
                prune.remove(case.after.fc, "weight")
                return "global L1"
            pairs = [(getattr(case.before, n).weight.data, getattr(case.after, n).weight.data) for n in ALL_LAYERS[:3]]
            if all((a.flatten(1).eq(0).sum(1) % a[0].numel() == 0).all() for _, a in pairs):
                for n in (2, 1):
                    if all(b[a.flatten(1).any(1)].flatten(1).norm(n, 1).min() >= b[~a.flatten(1).any(1)].flatten(1).norm(n, 1).max()
                           for b, a in pairs):
                        return f"structured L{n}"
                return "random structured"
            if all(b[a == 0].abs().max() <= b[a != 0].abs().min() for b, a in pairs):
                return "local L1"
        """,
    },
    "terse": {
        "nb09-008": "prediction = len({1, 2})",
        "nb09-010": """
            ws = [(getattr(case.before, n).weight.detach(), labkit.effective_weight(getattr(case.after, n)) == 0) for n in ALL_LAYERS]
            ws, parts = [(w, z) for w, z in ws if z.any()], lambda v, z: v[z].max() <= v[~z].min()
            whole = all(torch.equal(z.flatten(1).any(1), z.flatten(1).all(1)) for _, z in ws)
            least = lambda n: all(parts(w.flatten(1).norm(n, dim=1), z.flatten(1).all(1)) for w, z in ws)
            if whole:
                return next((f"structured L{n}" for n in (2, 1) if least(n)), "random structured")
            if all(parts(w.abs(), z) for w, z in ws):
                return "global L1" if len(ws) == 4 else "local L1"
        """,
    },
    "cautious": {
        "nb09-008": "prediction = None\nprediction = 3",
        "nb09-010": """
            assert set(labkit.prunable_layers(case.after)) == set(ALL_LAYERS)
            zero, before = {}, {}
            for name in ALL_LAYERS:
                zero[name] = labkit.effective_weight(getattr(case.after, name)) == 0
                before[name] = labkit.effective_weight(getattr(case.before, name)).abs()
                assert zero[name].shape == before[name].shape
            if zero["fc"].sum() > 0:
                # one threshold?
                highest = max(before[name][zero[name]].max() for name in ALL_LAYERS if zero[name].any())
                lowest = min(before[name][~zero[name]].min() for name in ALL_LAYERS if not zero[name].all())
                assert highest <= lowest
                return "global L1"
            shares = {name: zero[name].flatten(1).double().mean(dim=1) for name in ("conv1", "conv2", "conv3")}
            structured = all(((share == 0) | (share == 1)).all() for share in shares.values())
            if structured:
                candidates = []
                for n in (1, 2):
                    ok = []
                    for name, share in shares.items():
                        norms = torch.linalg.vector_norm(before[name].flatten(1).double(), ord=n, dim=1)
                        ok.append(bool(norms[share == 1].max() <= norms[share == 0].min()))
                    if all(ok):
                        candidates.append(f"structured L{n}")
                return candidates[0] if candidates else "random structured"
            local = [bool(before[name][zero[name]].max() <= before[name][~zero[name]].min()) for name in shares]
            if all(local):
                return "local L1"
        """,
        "nb09-010+": "print(method_of(cases[0]))\nassert method_of(cases[0]) == method_of(cases[0])",
    },
}

WORK["10_without_retraining"] = {
    "numpy": {
        "nb10-006": """
            import numpy as np

            scores = scores * torch.from_numpy(np.linalg.norm(inputs.numpy(), axis=0))
        """,
        "nb10-023": """
            import numpy as np

            stays = np.flatnonzero(kept.numpy())
            left, right = H.numpy()[np.ix_(stays, stays)], H.numpy()[stays] @ weight[row].numpy()
            new[row, stays] = torch.from_numpy(np.linalg.solve(left, right))
        """,
        "nb10-prediction-cell": "import numpy as np\n\nprediction = np.float32(0.9)",
        "nb10-036": """
            fours = scores.numpy().reshape(-1, 4)
            mask = np.zeros_like(fours)
            np.put_along_axis(mask, fours.argsort(axis=1)[:, 2:], 1, axis=1)
            mask = mask.reshape(scores.shape)
        """,
        "nb10-039": "size = np.prod([10, 3200]) // 2 * np.dtype(np.float32).itemsize + np.int64(10 * 3200 // 8)",
        "nb10-047": """
            before = np.array([114_688, 114_688, 458_752, 458_752])
            work = dict(zip(["query", "out", "up", "down"], before / np.array([2, 2, 4, 4])))
        """,
    },
    "tensors": {
        "nb10-006": """
            scores = torch.einsum("oi,i->oi", scores, torch.einsum("pi,pi->i", inputs, inputs).sqrt())
        """,
        "nb10-023": """
            stays = kept.nonzero().flatten()
            right = torch.einsum("ki,i->k", H.index_select(0, stays), weight[row])
            factor = torch.linalg.cholesky(H[stays[:, None], stays])
            new[row] = torch.zeros(len(kept)).double().scatter(0, stays, torch.cholesky_solve(right[:, None], factor)[:, 0])
        """,
        "nb10-prediction-cell": "prediction = torch.tensor(0.75)",
        "nb10-036": """
            fours = scores.unflatten(1, (-1, 4))
            mask = (fours > fours.kthvalue(2, dim=2, keepdim=True).values).flatten(1)
        """,
        "nb10-039": "size = torch.tensor([10 * 3200 / 2]) * 4 + torch.tensor(10 * 3200 / 4) / 2",
        "nb10-047": """
            units, width = torch.tensor([2 * 16, 2 * 16, 64, 64]), torch.tensor(64)
            work = 28 * units * width
        """,
    },
    "loops": {
        "nb10-006": """
            for j in range(inputs.shape[1]):
                squares = 0.0
                for part in inputs[:, j].split(1000):
                    squares += float((part * part).sum())
                for row in scores:
                    row[j] *= squares**0.5
        """,
        "nb10-023": """
            stays = [j for j in range(len(kept)) if kept[j]]
            right = torch.zeros(len(stays)).double()
            for j, w in enumerate(weight[row].tolist()):
                right += H[j][kept] * w
            for j, v in zip(stays, torch.linalg.solve(torch.stack([H[j][kept] for j in stays]), right).tolist()):
                new[row, j] = v
        """,
        "nb10-prediction-cell": "prediction = 0",
        "nb10-036": """
            mask = []
            for row in scores.tolist():
                bits = []
                for start in range(0, len(row), 4):
                    four = row[start : start + 4]
                    best = sorted(range(4), key=lambda place: four[place])[2:]
                    bits += [1 if place in best else 0 for place in range(4)]
                mask.append(bits)
        """,
        "nb10-039": """
            bits = 0
            for output in range(10):
                for four in range(3200 // 4):
                    bits += 2 * 32 + 2 * 2
            size = bits / 8
        """,
        "nb10-047": """
            work = []
            for read, written in ((64, 2 * 16), (2 * 16, 64), (64, 64), (64, 64)):
                work.append(sum(read * written for token in range(28)))
        """,
    },
    "library": {
        "nb10-006": "scores = labkit.wanda_scores(weight, inputs)",
        "nb10-023": "return labkit.compensate(weight.float(), mask, inputs)",
        "nb10-prediction-cell": "prediction = 0.985",
        "nb10-036": "mask = labkit.mask_2_4(scores)",
        "nb10-039": """
            fc = CNN_MNIST.fc.weight.detach()
            size = labkit.pack_2_4(fc * labkit.mask_2_4(fc.abs())).bytes
        """,
        "nb10-047": """
            cut = labkit.RowTransformer(heads=(2, 2), channels=(64, 64))
            work = {cost.name.split(".")[-1]: cost.multiply_adds for cost in labkit.multiply_adds(cut) if ".1." in cost.name}
        """,
    },
    "permanent": {
        "nb10-006": "scores.mul_(inputs.pow(2).sum(0).sqrt_())",
        "nb10-023": "new[row][kept] = torch.linalg.inv(H[kept][:, kept]).mv(H[kept].mv(weight[row]))",
        "nb10-prediction-cell": "prediction = torch.tensor([0.6]).numpy()",
        "nb10-036": """
            fours = scores.reshape(-1, 4)
            for _ in range(2):
                lowest = fours.masked_fill(mask.view(-1, 4) == 0, float("inf")).argmin(1)
                mask.view(-1, 4)[torch.arange(len(fours)), lowest] = 0
        """,
        "nb10-039": "size = 68e3",
        "nb10-047": "work['query'] = work['out'] = 57344.0\nwork['up'] = work['down'] = 114688.0",
    },
    "terse": {
        "nb10-006": "return weight.abs() * inputs.square().mean(0).sqrt()",
        "nb10-023": "new[row, k] = torch.linalg.lstsq(H[k := kept.nonzero()[:, 0]][:, k], H[k] @ weight[row, :, None])[0][:, 0]",
        "nb10-prediction-cell": "prediction = 1 - 0.3**2",
        "nb10-036": "mask = (scores.view(len(scores), -1, 4).argsort(2).argsort(2) // 2).flatten(1)",
        "nb10-039": "size = 32_000 * (16 + 1) // 8",
        "nb10-047": "work = (28 * 64 * 32,) * 2 + (28 * 64 * 64,) * 2",
    },
    "cautious": {
        "nb10-006": """
            one_norm = inputs.norm()  # of everything? no: one for each input
            norms = torch.linalg.vector_norm(inputs.double(), dim=0)
            assert norms.shape == weight.shape[1:] and norms.max() <= one_norm * 1.0001
            scores = torch.stack([row * norms for row in scores])
            assert scores.shape == weight.shape and (scores >= 0).all()
        """,
        "nb10-006+": "wanda(torch.ones(2, 3), torch.ones(4, 3))",
        "nb10-023": """
            before = new[row].clone()
            A = torch.linalg.solve(H[kept][:, kept], H[kept])  # (kept, inputs)
            assert torch.allclose(A[:, kept], torch.eye(len(A)).double(), atol=1e-4)
            new[row, kept] = A @ weight[row]

            def off(v):
                return (v - weight[row]) @ H @ (v - weight[row])

            assert off(new[row]) <= off(before) + 1e-6, row
            assert not new[row, ~kept].any()
        """,
        "nb10-024+": "solve(w, torch.ones_like(w), x) - w",
        "nb10-prediction-cell": "prediction = None\nprediction = 0.5",
        "nb10-036": """
            mask = (scores >= scores.median(dim=1, keepdim=True).values).float()  # half of each row: not yet
            print(mask[:, :4].sum(dim=1))
            mask = torch.zeros_like(scores)
            for column in range(0, scores.shape[1], 4):
                best = scores[:, column : column + 4].topk(2, dim=1).indices + column
                mask.scatter_(1, best, 1.0)
            assert (mask.view(-1, 4).sum(dim=1) == 2).all()
            mask = [row for row in mask]
        """,
        "nb10-039": """
            from fractions import Fraction

            values = 10 * 3200 // 2
            size = values * (4 + Fraction(2, 8))  # two bits for the place of each
            assert 64_000 < size < 128_000
        """,
        "nb10-047": """
            work = {"query": 114_688, "key": 114_688, "value": 114_688, "out": 114_688, "up": 458_752, "down": 458_752}
            for name in work:
                work[name] = work[name] / 4 if name in ("up", "down") else work[name] / 2
            work["block"] = sum(work.values())
            print(work)
        """,
    },
}
